"""The tokens of one file, read from the first to the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn, TypeVar

from sidecar.rego.syntax.tokens import NotRego, Token, tokens_of

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_DEEPEST = 60  # terms in terms: each is some ten frames of Python's own stack


class Reader:
    def __init__(self, text: str) -> None:
        self._tokens = tokens_of(text)
        self._next = 0
        self._depth = 0
        self.furthest: NotRego | None = None

    @property
    def here(self) -> Token:
        return self._tokens[self._next]

    @property
    def before(self) -> Token:
        """The token that was taken last."""
        return self._tokens[self._next - 1]

    def is_at(self, *kinds: str) -> bool:
        return self.here.kind in kinds

    def is_joined(self, *kinds: str) -> bool:
        """Whether one of *kinds* follows without a space."""
        return self.here.kind in kinds and not self.here.space_before

    def take(self) -> Token:
        token = self.here
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def take_if(self, *kinds: str) -> Token | None:
        return self.take() if self.is_at(*kinds) else None

    def expect(self, kind: str, says: str = "") -> Token:
        return self.take_if(kind) or self.fail(f"expected {says or kind}")

    def fail(self, says: str) -> NoReturn:
        """NotRego here, or where an attempt came further: that is nearer to the mistake."""
        found = self.here
        got = "the end of the file" if found.kind == "end" else found.text.partition("\n")[0]
        error = NotRego(f"{says}, got {got}", found.at)
        if self.furthest is None or self.furthest.at < error.at:
            self.furthest = error
        raise self.furthest

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What *read* reads; None, and nothing is taken, where something else stands here."""
        start, depth = self._next, self._depth
        try:
            return read()
        except NotRego:
            self._next, self._depth = start, depth
            return None

    def nested(self, read: Callable[[], T]) -> T:
        """NotRego where terms are nested too deeply."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self.fail(f"this is nested more than {_DEEPEST} deep")
        found = read()
        self._depth -= 1
        return found

    def items(self, closing: str, item: Callable[[], T]) -> tuple[T, ...]:
        """Up to *closing*, which is taken, with commas between them; one may stand before *closing*."""
        found: list[T] = []
        while not self.is_at(closing):
            found.append(item())
            if not self.take_if(","):
                break
        self.expect(closing, f", or {closing}")
        return tuple(found)

    def more(self, closing: str, item: Callable[[], T]) -> tuple[T, ...]:
        """As items, behind the first of them."""
        if self.take_if(","):
            return self.items(closing, item)
        self.expect(closing, f", or {closing}")
        return ()
