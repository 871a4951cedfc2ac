"""Passwords and keys in addresses: found, taken out, and masked where a text is shown or written.

An address may hold them before its host (`http://USER:PASSWORD@HOST`) or in its query (`?token=...`).
"""

from __future__ import annotations

import base64
import re
from typing import NamedTuple
from urllib.parse import quote, unquote

MASK = "***"

_SCHEME = r"(?:\b[a-zA-Z][\w+.-]*://|\b(?:https?|s3|ftp):/)"
# The second form is of a password with a slash, which an address may not hold as it is; a port is no password.
_USER_INFO = re.compile(rf"({_SCHEME})((?:[^\s/?#'\"<>]+|[^\s/:@\[]*:(?!\d{{1,5}}(?:[/?#\s]|$))[^\s@]*)@)")
_QUERY = re.compile(
    r"([?&;][\w.-]*(?:token|passw(?:or)?d|pwd|passphrase|secret|signature|credential|api[-_]?key|access[-_]?key"
    r"(?:[-_]?id)?|sig)=)([^&;\s'\"#]+)",
    re.IGNORECASE,
)
_NO_SCHEME = r"^([\w.-]+=)(?=[^\s/:@]+:[^\s/@]+@[\w.-]+)"
_SHORTEST = 4
"""Characters. A shorter password is masked where it stands in an address, and not wherever these characters occur."""
_known: set[str] = set()


class Credentials(NamedTuple):
    """What stood before the host of an address."""

    user: str
    password: str


def masked(text: str) -> str:
    """The text with *** for each password and key of an address in it, and for those that this process has read."""
    text = _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(rf"\1{MASK}@", text))
    for secret in sorted(_known, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def has_secret(text: str) -> bool:
    """Whether an address in the text holds a password or key."""
    return bool(_USER_INFO.search(text) or _QUERY.search(text))


def bare(text: str) -> str:
    """The text with its addresses as they are without passwords and keys."""
    return _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(r"\1", text))


def credentials_of(url: str) -> Credentials | None:
    """What stands before the host of a URL, decoded; None if nothing does."""
    found = _USER_INFO.match(url)
    if found is None:
        return None
    user, _, password = found[2].removesuffix("@").partition(":")
    return Credentials(unquote(user), unquote(password))


def remember(text: str) -> None:
    """From now on this process masks the passwords and keys that the addresses in the text hold, wherever they stand:
    alone, encoded for a URL, or as an HTTP header has them. In a word `key=value` the address may lack its scheme."""
    text = re.sub(_NO_SCHEME, r"\1http://", text)
    for found in _USER_INFO.finditer(text):
        user, colon, password = found[2].removesuffix("@").partition(":")
        _remember(password if colon else user)
        if colon:
            _known.add(base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
    for found in _QUERY.finditer(text):
        _remember(found[2])


def _remember(secret: str) -> None:
    if len(unquote(secret)) >= _SHORTEST:
        _known.update((secret, unquote(secret), quote(unquote(secret), safe="")))
