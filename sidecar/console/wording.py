"""What templates say things with: text that others chose, moments, and what stands in for nothing."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

_INVISIBLE = frozenset({"Cc", "Cf", "Zl", "Zp"})  # controls, zero width, direction marks, separators
_SECOND = "%Y-%m-%d %H:%M:%S UTC"


def named(value: object) -> Markup:
    """Text that anybody chose: it stays apart from the text around it, and nothing in it is invisible."""
    inner = Markup().join(
        Markup('<span class="invisible" title="{}">U+{:04X}</span>').format(
            unicodedata.name(letter, "a control character"), ord(letter)
        )
        if _is_invisible(letter)
        else escape(letter)
        for letter in str(value)
    )
    return Markup('<bdi class="named">{}</bdi>').format(inner)


def plain(value: object) -> str:
    """As `named`, for a title, which has no markup."""
    return "".join(f"[U+{ord(each):04X}]" if _is_invisible(each) else each for each in str(value))


def moment(value: datetime | str | None) -> Markup:
    """In UTC; the module writes the reader's own time beside it."""
    if value is None:
        return Markup('<span class="none">never</span>')
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    at = at.astimezone(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        at.isoformat().replace("+00:00", "Z"), at.strftime(_SECOND)
    )


def number(value: int | None) -> Markup:
    """The module writes it in the reader's language."""
    if value is None:
        return Markup("unlimited")
    return Markup('<data value="{0}" data-number>{0}</data>').format(value)


def price(document: dict[str, Any]) -> Markup:
    """*document* is as in an offer: amount, currency, per."""
    says = f"{document['amount']} {document['currency'] or ''}".strip()
    written = Markup('<data value="{}" data-currency="{}">{}</data>').format(
        document["amount"], document["currency"] or "", says
    )
    return written + (f" a {document['per']}" if document.get("per") else "")


FILTERS = {"named": named, "plain": plain, "moment": moment, "number": number, "price": price}


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in _INVISIBLE
