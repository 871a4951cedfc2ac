"""Checkpoints: the whole state of a game in a folder of `state.safetensors` and `checkpoint.json`, without pickle.

Digests are checked before anything is read. Random numbers are a function of (seed, turn), so the step is their whole
state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from gan_core.experiment import Compute, Experiment
from gan_core.family import Family
from gan_core.files import replacing
from gan_core.loop import Game
from gan_core.settings import IMPORT_PATH, SettingsError, imported, installed, source_of

_LOG = logging.getLogger(__name__)

STATE, ABOUT = "state.safetensors", "checkpoint.json"
UNKNOWN = "unknown"
"""Instead of the digest of source that Python does not know."""
GENERATOR = "ganfleet"
"""The name in a safetensors file's metadata under which an exported generator says what it is."""


class CheckpointError(SettingsError):
    """The folder is no checkpoint, is damaged, or belongs to another game."""


class UnfitCheckpointError(CheckpointError):
    """The checkpoint is of another family, or its networks have other weights."""


def save(game: Game, folder: Path) -> Path:
    """Writes the game's state to `folder` and returns it. An existing folder is replaced only once all is written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    mark = uuid.uuid4().hex
    aside, old = (folder.parent / f".{folder.name}-{mark}-{kind}" for kind in ("new", "old"))
    aside.mkdir()
    try:
        content = safetensors.torch.save(_tensors(game))
        (aside / STATE).write_bytes(content)
        about = {
            **_about(game),
            **({"rollbacks": game.rollbacks, "rate_scale": game.rate_scale} if game.rollbacks else {}),
            "sha256": hashlib.sha256(content).hexdigest(),
            "torch": torch.__version__,
        }
        (aside / ABOUT).write_text(json.dumps({**about, "digest": _digest(about)}, indent=1))
        if folder.exists():
            os.replace(folder, old)
        os.replace(aside, folder)
    except BaseException:
        if old.exists():
            os.replace(old, folder)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
    return folder


def save_generator(game: Game, file: Path) -> None:
    """Writes the averaged generator alone to one safetensors file, whose metadata has all that `open_generator` needs
    to rebuild it. The file is replaced only once all is written."""
    weights = {name: value.detach().clone().contiguous() for name, value in game.average.state_dict().items()}
    with replacing(file) as opened:
        opened.write(safetensors.torch.save(weights, {"format": "pt", GENERATOR: described(game)}))


def described(game: Game) -> str:
    """What a game is and how far it was played, as JSON for the metadata of a file that is made of it."""
    return json.dumps({**_about(game), "torch": torch.__version__})


def open_generator(file: Path | str, device: torch.device | str = "cpu") -> Game:
    """A game whose averaged generator is that of a file of `save_generator`; its other networks are new.

    Raises CheckpointError if the file is none, or its family cannot be imported.
    """
    try:
        with safetensors.safe_open(file, "pt", device=str(device)) as opened:
            about = json.loads((opened.metadata() or {})[GENERATOR])
            weights = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  it is no mapping
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{file} is no generator that ganfleet wrote: {error}") from None
    game = _rebuilt(about, file, device)
    try:
        game.average.load_state_dict(weights)
    except RuntimeError as error:
        name = game.experiment.family.name
        raise UnfitCheckpointError(f"{file} holds another generator than {name} builds: {error}") from None
    game.step = int(about["step"])
    _warn_of_other_code(game, file, about)
    return game


def describe(folder: Path) -> dict[str, Any]:
    """The content of `checkpoint.json`: step, images_seen, shape, classes, experiment. Raises CheckpointError."""
    try:
        about = json.loads((folder / ABOUT).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder} is no checkpoint: it has no {ABOUT}") from None
    except ValueError as error:
        raise CheckpointError(f"{folder / ABOUT} is damaged: {error}") from None
    if not isinstance(about, dict) or about.pop("digest", None) != _digest(about):
        raise CheckpointError(f"{folder / ABOUT} is damaged: its digest does not match")
    return about


def is_whole(folder: Path) -> bool:
    """Whether both files of a checkpoint exist and match their digests."""
    try:
        _verified(folder, describe(folder))
    except CheckpointError:
        return False
    return True


def _verified(folder: Path, about: dict[str, Any]) -> bytes:
    content = (folder / STATE).read_bytes() if (folder / STATE).is_file() else b""
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise CheckpointError(f"{folder / STATE} is damaged: its sha256 does not match {ABOUT}")
    return content


def load(game: Game, folder: Path) -> None:
    """Loads the state in `folder` into a game of the same family and data.

    Raises CheckpointError and leaves the game unchanged if the checkpoint does not fit.
    """
    about = describe(folder)
    _restore(game, _fitting(game, folder, about))
    game.step = int(about["step"])
    game.rollbacks = about.get("rollbacks", 0)
    game.scale_rates(about.get("rate_scale", 1.0))


def load_weights(game: Game, folder: Path) -> None:
    """Loads the networks and averages in `folder` into a new game of the same family, without the optimisers' state.

    Raises CheckpointError and leaves the game unchanged if the checkpoint is damaged or does not fit.
    """
    saved = _fitting(game, folder, describe(folder))
    _restore(game, {name: value for name, value in saved.items() if "/optimizer/" not in name})


def _fitting(game: Game, folder: Path, about: dict[str, Any]) -> dict[str, Tensor]:
    """The tensors of a checkpoint that fit the game."""
    saved = safetensors.torch.load(_verified(folder, about))
    _warn_of_other_code(game, folder, about)
    family = about["experiment"]["family"]["name"]
    if family != game.experiment.family.name or _shapes(saved) != _shapes(_tensors(game)):
        raise UnfitCheckpointError(f"{folder} holds another game: {family} on {tuple(about['shape'])}")
    return saved


def note_rollback(folder: Path, rollbacks: int, rate_scale: float) -> None:
    """Writes into a checkpoint that its game has rolled back to it, how often it has rolled back, and what the learning
    rates of the settings are multiplied by from there on."""
    about = {**describe(folder), "rolled_back_to": True, "rollbacks": rollbacks, "rate_scale": rate_scale}
    with replacing(folder / ABOUT) as file:
        file.write(json.dumps({**about, "digest": _digest(about)}, indent=1).encode())


def open_game(folder: Path, device: torch.device | str = "cpu") -> Game:
    """The game of a checkpoint, rebuilt from the experiment that it holds. Raises CheckpointError."""
    game = _rebuilt(describe(folder), folder, device)
    load(game, folder)
    return game


def _rebuilt(about: dict[str, Any], place: Path | str, device: torch.device | str) -> Game:
    """A new game as `_about` describes one. Raises CheckpointError that names the place of the description."""
    try:
        of_data = tuple(about["shape"]), device, about.get("classes", 1), about.get("class_names", ())
        return Game(Experiment.load(about["experiment"]), *of_data)
    except SettingsError as error:
        raise CheckpointError(f"{place} cannot be rebuilt: {error}") from None


def _about(game: Game) -> dict[str, Any]:
    """What a game is and how far it was played: all that `_rebuilt` needs."""
    return {
        "step": game.step,
        "images_seen": game.images_seen,
        "shape": list(game.shape),
        "classes": game.classes,
        "class_names": list(game.class_names),
        "experiment": _core(game.experiment),
        **_own_code(game.experiment.family),
    }


def _warn_of_other_code(game: Game, place: Path | str, about: dict[str, Any]) -> None:
    ours, theirs = _own_code(game.experiment.family).get("source"), about.get("source")
    if ours is not None and ours != theirs and UNKNOWN not in (ours, theirs):
        _LOG.warning("%s was trained by other code of %s", place, game.experiment.family.name)


def _digest(about: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of the networks' tensors. Optimisers are left out: they have no state before their first step."""
    return {name: tuple(value.shape) for name, value in tensors.items() if "/optimizer/" not in name}


def _core(experiment: Experiment) -> dict[str, Any]:
    """The settings of the game itself, without those that a subclass of Experiment adds."""
    whole = experiment.model_dump(mode="json")
    core = {name: whole[name] for name in Experiment.model_fields}
    core["compute"] = {name: whole["compute"][name] for name in Compute.model_fields}
    return core


def _own_code(family: Family) -> dict[str, str]:
    """The digest of the code outside of ours that a game is made of: the modules of its family and of its networks, or
    the notebook's cells that define them. It is `unknown` if Python does not know the source."""
    net = getattr(family, "net", "")
    net = installed("nets").get(net, net)
    code: dict[str, Any] = {installed("families").get(family.name, family.name): type(family)}
    if IMPORT_PATH.fullmatch(net):
        code[net] = imported("family.net", net)
    own = [path for path in sorted(code) if ":" in path]
    sources = dict.fromkeys(source_of(path, code[path]) for path in own)  # both may be of one file
    if None in sources:
        return {"source": UNKNOWN}
    return {"source": hashlib.sha256(b"".join(filter(None, sources))).hexdigest()} if own else {}


def _folder(averaged: str) -> str:
    """The prefix of an average's tensors."""
    return "average" if averaged == "generator" else f"average_{averaged}"


def _tensors(game: Game) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, net in game.averages.items():
        found |= {f"{_folder(name)}/{key}": value for key, value in net.state_dict().items()}
    for player_name, player in game.players.items():
        found |= {f"{player_name}/net/{name}": value for name, value in player.state_dict().items()}
        state = game.optimizers[player_name].state_dict()["state"]
        for index, values in state.items():
            found |= {f"{player_name}/optimizer/{index}/{key}": value for key, value in values.items()}
    return {name: value.detach().clone().contiguous() for name, value in found.items()}


def _restore(game: Game, saved: dict[str, Tensor]) -> None:
    def below(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)}

    for name, net in game.averages.items():
        net.load_state_dict(below(f"{_folder(name)}/"))
    for name, player in game.players.items():
        player.load_state_dict(below(f"{name}/net/"))
        optimizer = game.optimizers[name]
        state: dict[int, dict[str, Tensor]] = {}
        for path, value in below(f"{name}/optimizer/").items():
            index, key = path.split("/")
            state.setdefault(int(index), {})[key] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
