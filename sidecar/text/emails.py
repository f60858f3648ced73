"""E-mail addresses: what one looks like, and when two of them are the same."""

from __future__ import annotations

import re
import unicodedata
from string import ascii_lowercase, ascii_uppercase

LONGEST_EMAIL = 320
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


def is_email(text: str) -> bool:
    """Whether it has the form of an address; whether there is such a mailbox, only a message to it shows."""
    return _EMAIL.fullmatch(text) is not None


def address_of(email: str) -> str:
    """What two spellings of one e-mail address have in common, as authz.email_key in SQL.

    Folding is for searching, not for identity: it would make one of strasse and straße. Lower case comes
    first, since NFC makes ASCII letters of some others, such as the Kelvin sign.
    """
    return unicodedata.normalize("NFC", email.translate(_LOWER))
