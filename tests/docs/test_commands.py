"""Every command of README.md and of the pages in docs/ is one that works.

A command is run by a test that walks its page, or its line is checked here: the options by the command line's own
parser, `train` and `search` by `--dry-run`. What needs a cluster or a server, or runs for minutes, stands below a
marker and is checked here as far as that goes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from gan_core.experiment import Data
from gan_core.settings import paths
from pipelines.cli._main import app
from pipelines.jobs._options import PlaceOptions
from pipelines.settings import EvaluateSettings, TrainExperiment
from tests.golden.commands import answers
from tests.guide import DOCS, NEEDS, ROOT, Block, blocks, commands, pages

WALKED = {
    "docs/tutorial.md": "tests/docs/test_tutorial.py",
    "docs/howto/bring-your-own-gan.md": "tests/docs/test_bring_your_own_gan.py",
    "docs/howto/slurm.md": "tests/integration/test_slurm.py",
    "docs/howto/ray-cluster.md": "tests/integration/test_ray_jobs.py",
}
"""Pages whose commands a test runs from first to last, and that test's file."""

STANDING_FOR = {
    "NAME": "sure",
    "--from-search hunt": "--from-search sure",
    "--resume x": "--resume hunt",
    "--init-from first": "--init-from old/step-002000",
    "--init-from runs/first/checkpoints/step-002000": "--init-from old/step-002000",
}
"""What the recorded place has for what stands on the pages."""

ON_THE_PAGE = {"least_squares", "mine.yaml", "my_gan", "my_gan.gans:MyGan"}
"""What a page writes itself; the tests that walk those pages have it."""

OUTSIDE = {"docker", "kubectl", "export", "mlflow", "curl"}
"""Programs that are not ours: only below a marker, or on a page that is walked."""


INSTALL = {"python3", "source", "pip"}
"""What a shell has before ganfleet is installed."""


def all_commands() -> Iterator[tuple[Block, str]]:
    for page in pages():
        for block in blocks(page):
            for command in block.commands:
                yield block, command


ALL = list(all_commands())
OURS = [(block, line) for block, line in ALL if re.match(r"(\.venv/bin/)?ganfleet ", line)]


def words_of(command: str) -> list[str]:
    """The words after `ganfleet`."""
    return shlex.split(command, comments=True)[1:]


def label(case: tuple[Block, str]) -> str:
    block, line = case
    return f"{block.page}:{block.line}: {line}"


def test_there_are_commands():
    assert len(OURS) > 60


@pytest.mark.parametrize("case", ALL, ids=label)
def test_a_command_is_ours_or_marked_or_walked(case):
    block, command = case
    program = shlex.split(command, comments=True)[0]
    assert block.needs in ("", *NEEDS)
    if program == "make":
        targets = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
        assert shlex.split(command, comments=True)[1] in targets
    elif program in INSTALL:
        assert block.page == "README.md" or block.page in WALKED
    elif program in OUTSIDE:
        assert block.needs
        assert block.page in WALKED or "infra/deploy/" not in command or (ROOT / named_file(command)).is_file()
    elif command.partition(" -m ")[2].startswith("tests."):
        assert (ROOT / command.partition(" -m ")[2].split()[0].replace(".", "/")).is_dir()
    else:
        assert program.endswith("ganfleet") or block.page in WALKED, f"no test knows {program}"


def test_without_make_the_same_is_installed():
    """The two ways to install agree, and the lines stand in an order that works."""
    block = next(block for block in blocks("README.md") if "pip install" in block.text)
    assert block.commands[:2] == ["python3 -m venv .venv", "source .venv/bin/activate"]
    quiet = ("--disable-pip-version-check", "--quiet")
    joined = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    made = re.findall(r"-m (pip install [^|\n]*)", joined.split("demo:")[0])
    typed = [command.split() for command in block.commands if command.startswith("pip")]
    assert typed == [[word for word in line.split() if word not in quiet] for line in made]


def named_file(command: str) -> str:
    return next(word for word in shlex.split(command) if word.startswith("infra/deploy/"))


@pytest.mark.parametrize("page", sorted(WALKED))
def test_a_walked_page_is_walked(page):
    assert commands(page)
    assert page in (ROOT / WALKED[page]).read_text()


@pytest.mark.parametrize("case", OURS, ids=label)
def test_the_command_line_takes_its_options_and_settings(case):
    _, command = case
    context = typer.main.get_command(app).make_context("ganfleet", words_of(command), resilient_parsing=False)
    group = context.command
    while hasattr(group, "commands"):
        name, inner, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        context = inner.make_context(name, rest, parent=context)
        group = inner
    given = [word for word in words_of(command) if re.match(r"[a-z_]+(\.[A-Za-z_]+)*=", word)]
    train = paths(TrainExperiment)
    known = [
        *train,
        *paths(PlaceOptions),
        *paths(EvaluateSettings),
        *(f"search.{name}" for name in search_fields()),
        "data",
    ]
    for word in given:
        key = word.partition("=")[0]
        assert key in known or key.partition(".")[0] in ("family", "space"), f"no setting {key}"


def search_fields() -> list[str]:
    from pipelines.settings import SearchExperiment

    return list(SearchExperiment.model_fields["search"].annotation.model_fields)


def dry(command: str) -> str | None:
    """The line of `train` or `search` in a command, as one that only resolves its settings."""
    for there, here in STANDING_FOR.items():
        command = re.sub(rf"(?<!\S){re.escape(there)}(?!\S)", here, command)
    words = words_of(command)
    if words[0] == "submit":
        start = next(number for number, word in enumerate(words) if word in ("train", "search"))
        words = [word for word in words[start:] if not word.startswith(("slurm.", "kuberay."))]
    if words[0] not in ("train", "search") or ON_THE_PAGE & set(words):
        return None
    if any("=s3://" in word for word in words):
        words = [word for word in words if "s3://" not in word and not word.startswith("tracking.uri")]
    return shlex.join([*(word for word in words if word != "--dry-run"), "--dry-run"])


def test_train_and_search_resolve_their_settings(tmp_path):
    lines = sorted({line for _, command in OURS if (line := dry(command)) is not None})
    assert len(lines) > 20
    wrong = {
        line: answer
        for line, answer in zip(lines, answers(lines, tmp_path), strict=True)
        if answer.splitlines()[0] != "exit 0"
    }
    assert wrong == {}


def test_files_of_deployment_that_pages_name_are_there():
    text = "".join((ROOT / page).read_text() for page in pages())
    for name in set(re.findall(r"infra/deploy/[\w.]+", text)):
        assert (ROOT / name).is_file(), name


def test_each_link_between_pages_leads_somewhere():
    """On the disk, as GitHub shows it; `mkdocs build --strict` checks the site's."""
    generated = {f"reference/{name}.md" for name in ("settings", "families", "cli", "errors", "presets")} | {
        "api/index.md"
    }
    for page in [*pages(), "docs/RESULTS.md"]:
        for link in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", (ROOT / page).read_text()):
            target = (ROOT / page).parent / link
            inside = Path(*target.resolve().relative_to(ROOT).parts)
            assert target.exists() or str(inside.relative_to("docs")) in generated, f"{page}: {link}"


def test_data_has_the_values_that_the_page_of_settings_lists():
    assert Data(name="digits").image_size == 16
    assert (DOCS / "hooks" / "settings_pages.py").is_file()
