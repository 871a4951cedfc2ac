"""`check_family` finds planted mistakes, says what and where they are, and finds nothing in right families."""

import inspect
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gan_core.family import family_names
from gan_core.settings import SettingsError
from gan_core.testing import FamilyError, check_family
from tests.gan_core.testing import imports_torch, planted

FOUND = {
    # A penalty in a second backward pass, or none at all
    "BackwardInTheLoss": "gradient: the loss of critic .*planted.py.* runs a backward pass of its own: .* net.1.weight",
    "BackwardAfterTheStep": "gradient: after_step of critic runs a backward pass of its own: .* critic.net.1.weight",
    "GradientsByHand": "gradient: the loss of critic .* fills the gradient of net.1.weight; to mend it: add it to the",
    "BackwardInAHook": "workers: in turn 1, of critic, two workers have another gradient than one: .* net.1.weight",
    "PenaltyWithoutGraph": "gradient: family.gp_lambda changes the loss of critic and no gradient.*create_graph=True",
    "PenaltyDetached": "gradient: family.gp_lambda changes the loss of critic and no gradient",
    # A draw from a global generator
    "NoiseOfTorch": "random: the loss of critic .* draws from torch's global generator.*streams.normal",
    "NoiseOfNumpy": "random: the loss of critic .* draws from numpy's global generator",
    "FlipOfPython": "random: the loss of critic .* draws from random's global generator",
    "WeightsOfNumpy": r"random: recipe\(\) draws from numpy's global generator",
    "Dropout": r"random: critic.net.3 \(Dropout\) draws from torch's global generator.*GlobalDropout",
    "GeneratorOfItsOwn": "state: a run that is resumed .* does not hold .*'draw' of loss",
    "Clock": "random: a second game of the same seed is another one",
    "NoisySamples": "random: the generator draws random numbers of its own when it samples",
    # What is not the same on several workers
    "BatchNormInTheCritic": "workers: critic.net.1 is a BatchNorm2d: .*GlobalBatchNorm",
    "BatchNormInTheGenerator": "workers: generator.net.1 is a BatchNorm1d: .*LayerNorm",
    "SyncedBatchNorm": "workers: it plays alone, but not as two workers: .*SyncBatchNorm.*GlobalBatchNorm",
    "Summed": "workers: in turn 3, of generator, .*half of the gradient of one: the loss is a sum.*a mean",
    "MeanSquared": "workers: in turn 3, of generator, two workers have another gradient than one.*differentiable_mean",
    "LoggedSum": "workers: in round 1 two workers log scores=.*means over the batch",
    "BufferOfOneRank": "workers: after 4 rounds critic.net.seen is not the same on two workers",
    # State outside of the checkpoint
    "Counter": "state: a run that is resumed after 2 .* critic.net.0: attribute 'calls' of Fading.*register_buffer",
    "UnregisteredTensor": "state: .*does not hold critic.net: attribute 'k' of Sequential",
    "UnsavedBuffer": "state: .*does not hold critic.net: buffer 'k' with persistent=False",
    "PoolOfFakes": "state: .*does not hold critic: variable 'pool' of pooled_loss",
    "SecondOptimizer": "state: .*does not hold critic: an optimizer",
    "Private": r"state: a second game of the same seed .* both share .*\._calls; to mend it: make it anew",
    "OfTheModule": "state: a second game of the same seed .* both share .*global 'SEEN' of changed",
    # Losses and networks
    "NoScalar": r"play: the loss of generator .* is a tensor of shape \(16,\), not a scalar; to mend it: .*mean",
    "LossAlone": "play: the loss of generator .* returns a Tensor; to mend it: return loss,",
    "LogsAFloat": "play: the loss of generator .* logs 'score', which is no tensor",
    "NotFinite": "play: the loss of generator .* is nan at the start",
    "NoGraph": "gradient: the loss of generator .* has no graph",
    "Detached": "gradient: the loss of generator .* gives net.*and 6 more no gradient",
    "UnusedWeight": "gradient: the loss of critic .* gives net.1.spare.weight and 1 more no gradient",
    "Float32": "play: it cannot be played: RuntimeError: .*dtype.*planted.py",
    "BytesOnly": r"samples: the generator's images reach 1\d\d, outside of \[-1, 1\]; to mend it: end it with Tanh",
    "OtherShape": r"samples: the generator maps z of shape \(6, 8\) to \(6, 256\); to mend it: .*\(6, 1, 16, 16\)",
    "AlwaysTheSame": "samples: the generator gives the same sample for every z",
    "NormalisesSamples": "samples: a sample depends on the others",
    "AverageOfAList": "samples: the recipe's generator has no weights of its own.*attributes of a Module",
    "SamplesACopy": "samples: the recipe's generator has a weight that no player trains",
    "Labelled": "labels: it cannot be played on data without labels: .*needs_labels = True",
    "Broken": "play: it cannot be played: RuntimeError: shape .*planted.py",
    # Fields
    "Thawed": "settings: Thawed has model_config frozen=False",
    "Loose": "settings: Loose has model_config extra='ignore'",
    "WithoutDefault": "settings: the field beta1 of WithoutDefault has no default",
    "FunctionField": "settings: FunctionField cannot be rebuilt from its settings as JSON",
    "Early": r"import: importing .*imports_torch imports torch \(.*imports_torch.py:3\).*in recipe\(\)",
}
"""What must be found in each planted family."""
MAY_FOLLOW = {
    "GeneratorOfItsOwn": "workers: in turn 1, of critic, two workers have another gradient",
    "Detached": "gradient: the loss of generator has a gradient of 0 in every turn",
}
"""What is found besides."""


def faults_in(family) -> list[str]:
    with pytest.raises(FamilyError) as caught:
        check_family(family)
    assert caught.value.faults
    first, *lines = str(caught.value).splitlines()
    assert caught.value.family in first
    return [line.removeprefix("- ") for line in lines]


def test_each_planted_family_is_looked_at():
    kinds = {name for name, kind in vars(planted).items() if inspect.isclass(kind) and issubclass(kind, planted.Right)}
    assert kinds - {"Right", "RightWithAll"} == set(FOUND) - {"Early"}


@pytest.mark.parametrize("name", FOUND)
def test_a_planted_mistake_is_found_and_nothing_else(name):
    lines = faults_in(imports_torch.Early if name == "Early" else getattr(planted, name))
    wanted = [FOUND[name], *([MAY_FOLLOW[name]] if name in MAY_FOLLOW else [])]
    assert len(lines) == len(wanted), lines
    for line, pattern in zip(lines, wanted, strict=True):
        assert re.match(pattern, line), line


@pytest.mark.full
@pytest.mark.parametrize(
    "family", [*family_names(), "tests.gan_core.modern:Modern", planted.Right, planted.RightWithAll]
)
def test_a_right_family_passes(family):
    check_family(family)


def test_a_family_of_a_function_is_checked_on_two_workers_too():
    class Local(planted.Summed):
        """No other Python can import it."""

    (line,) = faults_in(Local(width=3))
    assert line.startswith("workers: in turn 3, of generator, two workers have half of the gradient")


def test_settings_choose_the_data_and_the_fields():
    check_family(planted.Right, "family.n_critic=1", "data.name=photos", "data.image_size=24x32", rounds=2)
    for words, said in (
        (["data.name=ring8"], "data.name=ring8 is points; nearest: data.name=digits"),
        (["family.lrr=1"], "unknown setting 'family.lrr'; nearest: family.lr"),
        (["data.image_siz=8"], "unknown setting 'data.image_siz'; nearest: data.image_size"),
    ):
        with pytest.raises(SettingsError, match=said):
            check_family(planted.Right, *words)


@pytest.mark.parametrize(
    ("family", "words", "said"),
    [
        ("wgan_pg", {}, "unknown family 'wgan_pg'; nearest: wgan_gp"),
        (int, {}, "is no Family; nearest: check_family"),
        ("wgan", {"rounds": 1}, "rounds=1: .*nearest: rounds=2"),
    ],
)
def test_what_cannot_be_checked_is_said(family, words, said):
    with pytest.raises(SettingsError, match=said):
        check_family(family, **words)


def test_the_callers_generators_are_left_as_they_were():
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()
    faults_in(planted.NoiseOfTorch)
    after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate(), torch.get_num_threads()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_a_script_checks_a_class_of_its_own_and_needs_neither_ray_nor_pytest(tmp_path):
    """Nothing in it stands below `if __name__ == "__main__"`: no process runs the script again."""
    (tmp_path / "script.py").write_text(
        "import sys; from gan_core.testing import check_family\n"
        "from tests.gan_core.testing.planted import Right\n"
        "class Mine(Right): pass\n"
        "check_family(Mine, rounds=2)\n"
        "print({'ray', 'mlflow', 'pytest', 'boto3'} & {name.partition('.')[0] for name in sys.modules})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, tmp_path / "script.py"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
