"""The tutorial, from its first command to its last, with smaller numbers of rounds."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from tests.guide import blocks, walked

PAGE = "docs/tutorial.md"
SMALLER = {
    "budget.rounds=500": "budget.rounds=40",
    "budget.rounds=800": "budget.rounds=40",
    "search.trials=6": "search.trials=3",
    "family.latent=16": "family.latent=16 family.width=8",
}
"""The page's settings, and those of the test."""

SMALLER_FILE = {
    "rounds: 400": "rounds: 30",
    "log_every: 50": "log_every: 5",
    "eval_every: 100": "eval_every: 10",
    "checkpoint_every: 100": "checkpoint_every: 10",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def said(home) -> dict[str, str]:
    """What each command wrote, by the command as it stands on the page."""
    asked = []
    for block in blocks(PAGE):
        if block.title:
            text = block.text
            for there, here in SMALLER_FILE.items():
                assert there in text or not block.title.endswith(".yaml"), f"{there} is no more in {block.title}"
                text = text.replace(there, here)
            (home / block.title).write_text(text)
        if not block.needs:
            asked += block.commands
    page = " ".join(asked)
    assert [there for there in SMALLER if there not in page] == []
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "MLFLOW_"))
    }
    environment |= {"GANFLEET_CACHE": str(home / "cache")}
    return walked(PAGE, home, SMALLER, environment, asked=asked)


def test_each_command_runs_and_leaves_what_the_page_says(own_cluster, home, said):
    printed = {command.split()[-1]: text for command, text in said.items()}
    assert "files are whole" in printed["packs/mine"]
    assert next(text for command, text in said.items() if "evaluate final" in command).startswith("fid ")
    assert (home / "first.png").stat().st_size > 0
    assert (home / "final.png").stat().st_size > 0
    hunt = home / "runs" / "hunt"
    (confirmed,) = csv.DictReader((hunt / "confirmed.csv").read_text().splitlines())
    assert len([name for name in confirmed if name.startswith("fid_")]) == 3, "seeds"
    assert "family:" in (hunt / "best.yaml").read_text()
    assert json.loads((hunt / "best.json").read_text())
    rows = [json.loads(line) for line in (home / "runs" / "first" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["step"] == 40
