"""What a mistyped word was meant to be. A known word is named only if it is similar; otherwise all of them are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from pathlib import Path

_SIMILAR = 0.65
"""Of difflib's ratio, from which on two words are similar: `dcgn` and `dcgan`, but not `bayes` and `tpe`."""
_LISTED = 12

_SYNONYMS = {
    "batch": "batch_size",
    "checkpoint_path": "storage.path",
    "dataset": "data.name",
    "epochs": "budget.rounds",
    "gpu": "cuda",
    "iterations": "budget.rounds",
    "learning_rate": "lr",
    "max_steps": "budget.rounds",
    "mlflow": "tracking.uri",
    "nz": "latent",
    "output": "storage.path",
    "output_dir": "storage.path",
    "resolution": "image_size",
    "steps": "budget.rounds",
    "z_dim": "latent",
}
"""What other programs call our settings and values."""


def similar(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`; None if none is similar."""
    alike = [candidate for candidate in sorted(known) if _alike(name, candidate)]
    return max(alike, key=lambda candidate: _likeness(name, candidate), default=None)


def similar_file(name: str, known: Iterable[str]) -> str | None:
    """As `similar`, for files or folders of one place, whose suffixes do not count."""
    stems = {_stem(one): one for one in known}
    found = similar(_stem(name), stems)
    return None if found is None else stems[found]


def _stem(name: str) -> str:
    return Path(name).stem.replace(".", "_")


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that is most like `name`, or the known names if none is similar."""
    known = list(known)
    return similar(name, known) or _one_of(known)


def nearest_key(path: str, known: Iterable[str]) -> str:
    """The known setting that is most like `path`; otherwise the settings of its section, or the sections."""
    known = list(dict.fromkeys(known))
    section = path.partition(".")[0]
    own = [one for one in known if one.startswith(f"{section}.")]
    found = similar(path, own) or similar(path, known)
    if found is not None:
        return found
    return _one_of(own or list(dict.fromkeys(re.sub(r"\..*", ".*", one) for one in known)))


def unknown(path: str, given: object, known: Iterable[str]) -> str:
    """The phrase for a name that is not among the known ones."""
    known = list(known)
    found = similar(str(given), known)
    right = f"one of {', '.join(known)}" if found is None else f"{found} (known: {', '.join(known)})"
    return f"unknown {path} '{given}'; nearest: {right}"


def _one_of(known: Sequence[str]) -> str:
    more = f", ... ({len(known) - _LISTED} more)" if len(known) > _LISTED else ""
    return f"{'one of ' if len(known) > 1 else ''}{', '.join(known[:_LISTED])}{more}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _last(name: str) -> str:
    """The last part of a dotted key, or of a path."""
    return re.split(r"\." if re.fullmatch(r"[a-z_]\w*(\.[a-z_]\w*)*", name) else "/", name)[-1]


def _ratio(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()


def _alike(name: str, candidate: str) -> bool:
    name, candidate = _plain(name), _plain(candidate)
    part, wanted = _last(candidate), _last(name)
    if not wanted:
        return False
    if _SYNONYMS.get(wanted) in (part, candidate) or part == wanted or name.startswith(f"{candidate}."):
        return True
    if len(wanted) > 2 and (part.startswith(wanted) or wanted in part.split("_")):
        return True
    if len(part) > 3 and wanted.startswith(part):
        return True
    return _ratio(wanted, part) >= _SIMILAR


def _likeness(name: str, candidate: str) -> float:
    """An equal last part counts most (`lr` -> `family.lr`), then letters."""
    name, candidate = _plain(name), _plain(candidate)
    part, wanted = _last(candidate), _last(name)
    same_section = 0.5 * (name.rpartition(".")[0] == candidate.rpartition(".")[0])
    meant = _SYNONYMS.get(wanted) in (part, candidate)
    return _ratio(name, candidate) + _ratio(wanted, part) + (part == wanted) + 2 * meant + same_section
