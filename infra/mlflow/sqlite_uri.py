"""The URI of a SQLite file, as SQLAlchemy and MLflow read it. Imports neither.

SQLAlchemy takes `?` for the start of its options and decodes `%XX`. MLflow makes the folder of a new file without
decoding its name.
"""

from pathlib import Path
from urllib.parse import quote, unquote

SCHEME = "sqlite:///"


def sqlite_uri(file: Path) -> str:
    """The URI of an absolute path. All that follows the first name which needs quoting is quoted, its slashes too: the
    folder that MLflow sees is then one that exists."""
    assert file.is_absolute()
    plain = 1
    while plain < len(file.parts) and _plain(file.parts[plain]):
        plain += 1
    if plain == len(file.parts):
        return f"{SCHEME}{file}"
    return f"{SCHEME}{Path(*file.parts[:plain], quote('/'.join(file.parts[plain:]), safe=''))}"


def _plain(name: str) -> bool:
    return "?" not in name and unquote(name) == name


def sqlite_file(uri: str) -> Path:
    """The file that a URI names."""
    return Path(unquote(uri.removeprefix(SCHEME)))
