"""What mkdocs makes beside the pages that lie in docs/: pages from the code, and those of the repository's root.

Nothing that is made here is kept in the repository.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import command_pages  # noqa: E402
import diagram  # noqa: E402
import module_pages  # noqa: E402
import settings_pages  # noqa: E402

from tests.package_arrows import pipeline_graph  # noqa: E402

FROM_ROOT = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
"""Pages of the repository's root, and where the site has them."""

GENERATED = {
    "reference/settings.md": settings_pages.settings,
    "reference/families.md": settings_pages.families,
    "reference/cli.md": command_pages.commands,
    "reference/errors.md": command_pages.errors,
    "reference/presets.md": command_pages.presets,
    "api/index.md": module_pages.modules,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that lie in no file of docs/."""
    for source, page in FROM_ROOT.items():
        text = re.sub(r"\]\(docs/", "](", (ROOT / source).read_text())
        if source == "ARCHITECTURE.md":
            text = re.sub(r"(?s)```mermaid\n.*?```", lambda _: diagram.drawn(pipeline_graph()), text)
        files.append(File.generated(config, page, content=_moved(text, "")))
    for page, made in GENERATED.items():
        files.append(File.generated(config, page, content=made()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of docs/ to pages of the repository's root, which the site has elsewhere."""
    return _moved(markdown, posixpath.dirname(page.file.src_uri))


def _moved(markdown: str, folder: str) -> str:
    for source, page in FROM_ROOT.items():
        there = posixpath.relpath(page, folder or ".")
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(source)}(#[\w-]+)?\)", rf"]({there}\2)", markdown)
    return markdown
