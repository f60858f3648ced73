"""Paths, read in one way or not at all: those of requests, and the templates of routes.

Gateway, sidecar and backend each read the path that a client sent. If two of them could read it differently,
the check could be bypassed; so such a path is refused, not normalised.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import starmap
from urllib.parse import unquote_to_bytes

from sidecar.errors import UnsafePath

# What RFC 3986 lets stand in a segment, without the `;` that some servers cut off, and with the `|` that
# browsers send as it is.
_WRITTEN = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@|-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_OCTET = re.compile(r"%[0-9A-Fa-f]{2}", re.ASCII)
_NEEDLESS = re.compile(r"%(2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])", re.ASCII)
_DIVIDERS = frozenset(
    "/\\;?#% "
)  # a space: some servers strip it, and one that is decoded divides a first line
_ASCII = frozenset(map(chr, range(128)))
_PARAMETER = re.compile(r"\{([a-z][a-z0-9_]*)\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Segment:
    """One part of a path: as *written*, with percent-encoding in capitals, and the decoded *text*."""

    written: str
    text: str

    @property
    def lookalikes(self) -> tuple[str, str]:
        """What a lenient server may take it for: without case, Unicode form and extension."""
        folded = (
            self.text.lower() if self.text.isascii() else unicodedata.normalize("NFKC", self.text).casefold()
        )
        return folded, folded.rpartition(".")[0]


def segments_of(target: str) -> tuple[Segment, ...]:
    """The segments of a request's *target* without its query; a slash at the end is ignored.

    UnsafePath for what two servers could read differently.
    """
    path = target.partition("?")[0]
    if not path.startswith("/"):
        raise _unsafe("it does not begin with /")
    if path == "/":
        return ()
    return tuple(map(_segment, path.removesuffix("/")[1:].split("/")))


def _segment(written: str) -> Segment:
    if not _WRITTEN.fullmatch(written):
        raise _unsafe(
            "a character in it must be percent-encoded or not be there at all"
            if written
            else "there is // in it"
        )
    if written in {".", ".."}:
        raise _unsafe("there is . or .. in it")
    if written.endswith("."):
        raise _unsafe("a part of it ends in a dot, which some servers strip")
    if "%" not in written:
        return Segment(written, written)
    if _NEEDLESS.search(written):
        raise _unsafe("it encodes what needs no encoding")
    try:
        text = unquote_to_bytes(written).decode()
    except UnicodeDecodeError:
        raise _unsafe("it is not UTF-8") from None
    if not _DIVIDERS.isdisjoint(text) or not text.isprintable():
        raise _unsafe("it encodes a divider, a space or what cannot be printed")
    if any(map(_becomes_ascii, text)):
        raise _unsafe("it has a character that NFKC makes an ASCII one, such as a full-width slash")
    return Segment(_OCTET.sub(lambda octet: octet[0].upper(), written), text)


def _becomes_ascii(character: str) -> bool:
    return not character.isascii() and not _ASCII.isdisjoint(unicodedata.normalize("NFKC", character))


def _unsafe(why: str) -> UnsafePath:
    return UnsafePath(f"two servers could read it differently: {why}")


@dataclass(frozen=True, slots=True)
class Template:
    """A route's path: a `Segment` where it is fixed, and a parameter's name where it varies."""

    parts: tuple[Segment | str, ...]

    @property
    def fixed(self) -> tuple[int, ...]:
        """The positions of the fixed parts."""
        return tuple(place for place, part in enumerate(self.parts) if isinstance(part, Segment))

    def meets(self, other: Template) -> bool:
        """Whether a path can match both."""
        return len(self.parts) == len(other.parts) and all(
            starmap(_may_be_one, zip(self.parts, other.parts, strict=True))
        )

    def is_within(self, other: Template) -> bool:
        """Of two that overlap: whether *other* matches every path of this one too."""
        return set(self.fixed) >= set(other.fixed)


def _may_be_one(part: Segment | str, other: Segment | str) -> bool:
    if isinstance(part, str) or isinstance(other, str):
        return True
    return part.lookalikes[0] == other.lookalikes[0]


def template_of(path: str) -> Template:
    """UnsafePath for a template that no safe path can match."""
    if path == "/":
        return Template(())
    return Template(tuple(map(_part, path.removesuffix("/")[1:].split("/"))))


def _part(written: str) -> Segment | str:
    parameter = _PARAMETER.fullmatch(written)
    return parameter[1] if parameter else _segment(written)
