"""One problem or warning in a file, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from sidecar.errors import Problem
from sidecar.text.nearest import nearest as nearest_text

if TYPE_CHECKING:
    from collections.abc import Collection

Severity = Literal["error", "warning"]
_LONGEST_NAME = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """*line* and *column* count from 1; *code* is stable, *message* may change."""

    source: str
    line: int
    column: int
    code: str
    message: str
    suggestion: str | None = None
    severity: Severity = "error"

    def __str__(self) -> str:
        return (
            f"{self.pointer}: {'warning: ' if self.severity == 'warning' else ''}{self._says} ({self.code})"
        )

    @property
    def pointer(self) -> str:
        return f"{self.source}:{self.line}:{self.column}"

    @property
    def order(self) -> tuple[str, int, int, str, str]:
        return (self.source, self.line, self.column, self.code, self.message)

    @property
    def problem(self) -> Problem:
        return Problem(pointer=self.pointer, detail=f"{self._says} ({self.code})", suggestion=self.suggestion)

    @property
    def document(self) -> dict[str, object]:
        """For a program."""
        names = ("source", "line", "column", "code", "message", "suggestion")
        return {name: getattr(self, name) for name in names}

    @property
    def _says(self) -> str:
        return f'{self.message}; did you mean "{self.suggestion}"?' if self.suggestion else self.message


def finding_at(
    text: str,
    at: int,
    *,
    source: str,
    code: str,
    message: str,
    suggestion: str | None = None,
    severity: Severity = "error",
) -> Finding:
    """Of the offset *at* in *text*."""
    before = text[:at]
    return Finding(
        source=source,
        line=before.count("\n") + 1,
        column=len(before) - (before.rfind("\n") + 1) + 1,
        code=code,
        message=message,
        suggestion=suggestion,
        severity=severity,
    )


def nearest(name: str, known: Collection[str]) -> str | None:
    """The one of *known* that somebody who wrote *name* most likely meant."""
    if len(name) > _LONGEST_NAME:
        return None
    return nearest_text(name.lower().replace(" ", "_"), known)
