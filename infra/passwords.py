"""What is shown of addresses that hold a password."""

import re


def masked(text: str) -> str:
    """Without the passwords of the URIs in it."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", text)
