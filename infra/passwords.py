"""Addresses without their passwords, to show."""

import re


def masked(text: str) -> str:
    """The text with *** for the password of each URI in it."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]+@", r"\1:***@", text)
