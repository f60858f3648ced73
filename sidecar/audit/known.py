"""Very many texts, to see later whether one is among them."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from hashlib import blake2b


class Known:
    """A set of texts in 8 bytes each: of a billion other texts it takes one for known."""

    def __init__(self) -> None:
        self._hashes = array("Q")
        self._is_sorted = True

    def add(self, text: str) -> None:
        self._hashes.append(_hash_of(text))
        self._is_sorted = False

    def __contains__(self, text: str) -> bool:
        if not self._is_sorted:
            self._hashes = array("Q", sorted(self._hashes))
            self._is_sorted = True
        wanted = _hash_of(text)
        at = bisect_left(self._hashes, wanted)
        return at < len(self._hashes) and self._hashes[at] == wanted


def _hash_of(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())
