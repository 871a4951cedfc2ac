"""The checkpoint of step 0 of a run that begins with the weights of another (`--init-from`)."""

from __future__ import annotations

from pathlib import Path

from gan_core import checkpoint
from gan_core.data.dataset import Dataset
from gan_core.loop import Game
from gan_core.settings import SettingsError
from pipelines.runs import INIT_FROM, RunFolder
from pipelines.settings import TrainExperiment
from pipelines.train.play import resume_checkpoint


def write_initial_checkpoint(experiment: TrainExperiment, folder: RunFolder, dataset: Dataset) -> None:
    """Copies the weights into the folder of a new run, unless it has a checkpoint already. The run then begins as one
    that resumes, with any number of workers.

    Raises SettingsError if the weights are gone, or do not fit the data.
    """
    origin = folder.origin.get(INIT_FROM)
    if origin is None or resume_checkpoint(folder) is not None:
        return
    game = Game(experiment, dataset.shape, "cpu", dataset.classes, dataset.class_names)
    try:
        about = checkpoint.describe(Path(origin))
        theirs, ours = (tuple(about["shape"]), about.get("classes", 1)), (tuple(dataset.shape), dataset.classes)
        checkpoint.load_weights(game, Path(origin))
    except checkpoint.UnfitCheckpointError:
        raise SettingsError(
            f"the weights of {origin} are for {_described(*theirs)} and {_settings(about['experiment']['family'])}, not"
            f" for {_described(*ours)} and {_settings(experiment.family.model_dump(mode='json'))}",
            nearest="the settings of that run",
        ) from None
    with folder.sole_writer():
        checkpoint.save(game, folder.checkpoint(0))
        folder.save(0)


def _described(shape: tuple[int, ...], classes: int) -> str:
    return f"samples of {'x'.join(map(str, shape))} in {classes} class{'' if classes == 1 else 'es'}"


def _settings(family: dict[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in family.items())
