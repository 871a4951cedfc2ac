"""The pages that a program makes or a reader copies from: the site builds, and code on the pages runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from gan_core.families import adversarial
from gan_core.family import family_names
from tests.guide import DOCS, ROOT, blocks, pages
from tests.package_arrows import OURS

LONGEST = {"README.md": 120, "ARCHITECTURE.md": 120}


@pytest.mark.parametrize("page", sorted(LONGEST))
def test_a_first_page_is_short(page):
    assert len((ROOT / page).read_text().splitlines()) <= LONGEST[page]


def test_the_glossary_has_one_sentence_a_term():
    rows = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \|$", (DOCS / "glossary.md").read_text())[2:]
    assert len(rows) <= 40
    terms = [term for term, _ in rows]
    assert terms == sorted(terms, key=str.lower)
    assert len(set(terms)) == len(terms)
    assert [text for _, text in rows if text.count(". ") or not text.endswith(".")] == []


def test_the_readme_names_every_family():
    readme = (ROOT / "README.md").read_text().split("## Families")[1]
    assert [name for name in family_names() if f"`{name}`" not in readme] == []


def test_the_readme_names_every_package():
    tree = (ROOT / "README.md").read_text().split("```text\n")[1].split("```")[0]
    named, top = set(), ""
    for line in tree.splitlines():
        name = line.split()[0].rstrip("/")
        top = top if line.startswith(" ") else name
        named.add(name if name == top else f"{top}/{name}")
    there = {
        str(path.parent.relative_to(ROOT))
        for root in ("gan_core", "tune_spaces", "infra", "pipelines")
        for path in [ROOT / root / "__init__.py", *(ROOT / root).glob("*/__init__.py")]
    }
    assert there <= named
    assert [name for name in named if not (ROOT / name).is_dir()] == []


def test_each_decision_is_in_the_table_and_has_its_parts():
    files = sorted(path.name for path in (DOCS / "decisions").glob("[0-9]*.md"))
    table = re.findall(r"\]\((\d{3}-[\w-]+\.md)\)", (DOCS / "decisions" / "index.md").read_text())
    assert table == files
    for name in files:
        text = (DOCS / "decisions" / name).read_text()
        assert re.findall(r"(?m)^## (.+)$", text) == ["Context", "Decision", "Why", "What follows"], name
        assert text.startswith(f"# {int(name[:3])}. "), name


def test_each_file_that_a_page_names_is_there():
    files = [f"/{path.relative_to(ROOT)}" for top in (*OURS, "tests") for path in (ROOT / top).rglob("*.py")]
    missing = [
        f"{page}: {name}"
        for page in pages()
        for name in re.findall(r"`([\w/]+\.py)\b", (ROOT / page).read_text())
        if not any(file.endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_the_librarys_example_runs():
    code = [block.text for block in blocks("docs/howto/library.md") if block.language == "python" and not block.needs]
    assert len(code) == 2
    program = (
        "\n".join(code).replace('"budget.rounds=100"', '"budget.rounds=2", "family.width=4"').replace("% 50", "% 1")
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second, fid = done.stdout.splitlines()
    assert (first.split()[0], second.split()[0]) == ("1", "2")
    assert float(fid) > 0


def test_the_family_of_the_page_plays(tmp_path, monkeypatch):
    from gan_core.experiment import Experiment
    from tests.gan_core.games import BATCH, new_game, play

    (block,) = [block for block in blocks("docs/howto/add-a-family.md") if block.language == "python"]
    assert block.title == "gan_core/families/adversarial/least_squares.py"
    (tmp_path / "least_squares.py").write_text(block.text)
    monkeypatch.setattr(adversarial, "__path__", [*adversarial.__path__, str(tmp_path)])
    experiment = Experiment.load({"family": "least_squares"}).override("family.width=4", f"data.batch_size={BATCH}")
    assert len([one.scalars() for one in play(new_game(experiment), 2)]) == 2


def test_each_setting_has_a_meaning():
    sys.path.insert(0, str(DOCS / "hooks"))
    try:
        from settings_pages import families as families_page
        from settings_pages import settings
    finally:
        sys.path.remove(str(DOCS / "hooks"))
    rows = re.findall(r"(?m)^\| `([\w.]+)` \| [^|]*\| [^|]*\| ([^|]*) \|", settings() + families_page())
    assert len(rows) > 100
    assert [key for key, meaning in rows if not meaning.strip()] == []


@pytest.mark.full
def test_the_site_builds_without_a_warning(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR"))] == []
    settings = (tmp_path / "site" / "reference" / "settings.html").read_text()
    for key in ("budget.eval_every", "search.confirm_seeds", "slurm.nodes", "kuberay.claim", "metrics.async"):
        assert f"<code>{key}</code>" in settings, key
    families_page = (tmp_path / "site" / "reference" / "families.html").read_text()
    assert all(f'id="{name}"' in families_page for name in family_names())
    assert "exit code" in (tmp_path / "site" / "reference" / "errors.html").read_text()
    fetched = [
        str(page)
        for page in (tmp_path / "site").rglob("*.html")
        if re.search(r'<(script|link|img)[^>]+(src|href)="https?://', page.read_text())
    ]
    assert fetched == [], "a page fetches from elsewhere"
