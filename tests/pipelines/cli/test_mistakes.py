"""Mistakes of a newcomer, and the nearest right thing that a person would name for each."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.golden.commands import environment_of, furnish
from tests.golden.forks import Answer, forked

MEANT = {
    # a place where a data set's name belongs
    "train dcgan data=PLACE/pngs": "data=folder data.path=PLACE/pngs",
    "train dcgan data=./pngs": "data=folder data.path=./pngs",
    "train dcgan data=pngs": "data=folder data.path=pngs",
    "train dcgan data=arrays.npz": "data=npz data.path=arrays.npz",
    "train dcgan data=half": "data=packed data.path=half",
    "train dcgan data=s3:bucket/cats": "data=s3://bucket/cats",
    "train dcgan data.path=pngs": "data.name=folder",
    # a data set that others call otherwise
    "train dcgan data=CIFAR-10": "cifar10",
    "train dcgan data=fashion-mnist": "fashion_mnist",
    "train dcgan data=imagenet": "one of digits, ring8, grid25",
    # a setting that others call otherwise, or without its section
    "train dcgan epochs=20": "budget.rounds",
    "train dcgan budget.steps=20": "budget.rounds",
    "train dcgan learning_rate=1e-4": "family.lr",
    "train dcgan family.learning_rate=1e-4": "family.lr",
    "train dcgan batch=32": "data.batch_size",
    "train dcgan dataset=mnist": "data.name",
    "train dcgan workers=2": "compute.workers",
    "train dcgan resolution=64": "data.image_size",
    "train dcgan output_dir=out": "storage.path",
    "train dcgan mlflow=http://127.0.0.1:5000": "tracking.uri",
    "train dcgan compute.device=gpu": "cuda",
    "train dcgan compute.device=CUDA": "cuda",
    "train dcgan metrics.extractor=inception": "inception-v3",
    "train dcgan budjet.eval_evry=3": "budget.eval_every",
    "search dcgan trials=8": "search.trials",
    "search dcgan space.learning_rate=uniform(0.1,1)": "space.lr",
    "search dcgan search.sampler=optuna": "one of tpe, random, sobol, gp",
    # an option where a setting belongs, and the other way round
    "train dcgan --family.lr=3": "family.lr=3",
    "train dcgan --lr 3e-4": "family.lr=3e-4",
    "train dcgan --batch-size=32": "data.batch_size=32",
    "train dcgan --rounds=500": "budget.rounds=500",
    "search dcgan --trials 8": "search.trials=8",
    "train dcgan --dryrun": "--dry-run",
    "train dcgan -c demo": "--config",
    "--versoin": "--version",
    "sample first --cuont 4": "--count",
    # what another command takes
    "search dcgan --from-search hunt": "ganfleet train --from-search",
    "train dcgan search.trials=8": "ganfleet search",
    "train dcgan space.lr=uniform(0.1,1)": "ganfleet search",
    "train family=dcgan": "ganfleet train dcgan",
    "evaluate first family.lr=1": "leave it out",
    "evaluate first metrics.sampels=9": "metrics.samples=9",
    "ui storage.pth=runs": "storage.path=runs",
    "train --resume first family.lr=1": "leave it out",
    # a setting of another family
    "train wgan family.gp_lambda=10": "leave it out, or family cwgan_gp or dragan or wgan_gp",
    "train wgan metrics.extractor=pixels metrics.weights=a-file": "metrics.extractor=classifier",
    # names that are like no known one are not guessed
    "train stylegan3": "stylegan2 (known: autoencoder, began",
    "train pix2pix": "one of autoencoder, began",
    "train dcgan foo=1": "one of seed, family.*, data.*",
    "train dcgan data.foo=1": "one of data.name, data.image_size",
    "evaluate somewhere": "one of by-images, first, hunt, sure",
    "train --config nothing.yaml": "a YAML file, or one of began-celeba",
    "train --config runs/first": "runs/first/experiment.yaml",
    "train --config wgan-cifar10": "wgan_gp-cifar10",
}


@pytest.fixture(scope="module")
def answered(tmp_path_factory) -> dict[str, tuple[Answer, Path]]:
    place = tmp_path_factory.mktemp("mistakes") / "place"
    furnish(place)
    (place / "pngs").mkdir()
    (place / "arrays.npz").write_bytes(b"")
    lines = [line.replace("PLACE", str(place)) for line in MEANT]
    said = forked([(place, shlex.split(line)) for line in lines], environment_of(place.parent))
    return {line: (answer, place) for line, answer in zip(MEANT, said, strict=True)}


@pytest.mark.parametrize("line", MEANT)
def test_the_nearest_right_thing_is_what_a_person_would_name(answered, line):
    answer, place = answered[line]
    nearest = answer.mistake().partition("; nearest: ")[2].replace(str(place), "PLACE")
    assert nearest.startswith(MEANT[line])
    assert answer.loaded == []
