"""E-mail addresses: what one looks like, and when two of them are the same."""

from __future__ import annotations

import re
import unicodedata

LONGEST_EMAIL = 320
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def is_email(text: str) -> bool:
    """Whether it has the form of an address; whether there is such a mailbox, only a message to it shows."""
    return _EMAIL.fullmatch(text) is not None


def address_of(email: str) -> str:
    """What two spellings of one e-mail address have in common."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", email).casefold())
