"""How many modules a reader opens to follow one setting from the command line to the optimiser."""

import re
import subprocess
import sys
from pathlib import Path

MOST = 8


def test_a_setting_goes_to_the_optimiser_through_few_modules():
    command = [sys.executable, "-m", "tests.journey"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules = re.findall(r"^\d+  (\S+)", done.stdout, re.MULTILINE)
    assert modules[0] == "pipelines.cli._main"
    assert "to gan_core.optimizers.adam" in done.stdout
    assert {
        "gan_core.settings._tree",
        "pipelines.train.worker_group",
        "gan_core.loop",
        "gan_core.families.adversarial.wgan_gp",
    } <= set(modules)
    assert len(modules) <= MOST, done.stdout
