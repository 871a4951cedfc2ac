"""Pages of the command line: help, errors and presets, from what `tests/golden` records and the presets' own files."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.settings._presets import PRESETS, preset_names
from tests.golden.commands import read

EXIT_CODES = """\
| exit code | meaning |
|---|---|
| 0 | done |
| 2 | your input is wrong: one line on standard error says what, why, and the nearest right value |
| 75 | interrupted; the same command with `--resume NAME` continues it |
| 1 | anything else; `run.log` in the run's folder says what happened, `ray.log` what Ray and the workers wrote |
"""


def commands() -> str:
    """The help of each command."""
    parts = ["# Command line", "The help of each command, as `ganfleet COMMAND --help` prints it.", EXIT_CODES]
    for line, answer in read("help").items():
        name = line.replace("--help", "").strip()
        parts += [f"## ganfleet {name}".rstrip(), _fenced(answer.partition("\n")[2].strip("\n"), "{ .text .help }")]
    return "\n\n".join(parts)


def errors() -> str:
    """Every recorded error line, by command and exit code."""
    parts = [
        "# Errors and exit codes",
        EXIT_CODES,
        "A wrong setting is reported in a fraction of a second, before torch or Ray is imported and before anything is"
        " written. The line names the setting, its value, why it is wrong, and the nearest right one. All mistakes of a"
        " command line that can be found together are reported together.",
        "In a batch job, a server that does not answer at the start of a run ends it with 75 instead of 2, so that the"
        " job is started again (see [how a submitted run resumes](../howto/submit.md)).",
        "The rest of this page is what the tests record: each line was typed, and this is its answer.",
    ]
    grouped: dict[str, list[tuple[str, str]]] = {}
    for line, answer in read("errors").items():
        grouped.setdefault(_verb(line), []).append((line, answer))
    for verb, answers in sorted(grouped.items()):
        parts += [f"## {verb}", _fenced("\n\n".join(_answers(answers)), "{ .text .wrapped }")]
    return "\n\n".join(parts)


def _verb(line: str) -> str:
    words = line.split()
    known = {answer.split()[0] for answer in read("help") if answer.split() and not answer.startswith("-")}
    return f"ganfleet {words[0]}" if words and words[0] in known else "a mistyped command"


def _answers(answers: list[tuple[str, str]]) -> Iterator[str]:
    for line, answer in answers:
        head, _, said = answer.partition("\n")
        code = head.partition(",")[0]  # what the line loaded or changed follows
        yield f"$ ganfleet {line}\n{said}" if code == "exit 2" else f"$ ganfleet {line}    # {code}\n{said}"


def presets() -> str:
    """Each preset's file, with its source at its head."""
    parts = [
        "# Presets",
        "`ganfleet train --config NAME` or `ganfleet search --config NAME` takes a preset's settings; those typed after"
        " it win. A preset is a YAML file; `--config FILE.yaml` takes one of your own.",
    ]
    for name in preset_names():
        parts += [f"## {name}", _fenced((PRESETS / f"{name}.yaml").read_text().strip("\n"), "yaml")]
    return "\n\n".join(parts)


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"
