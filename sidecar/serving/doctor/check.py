"""One thing that was looked at: how it is, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sidecar.decisions.model import Json

State = Literal["ok", "warning", "finding", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """*says* is how it is, in a line; *do* what to do, where something is to be done."""

    name: str
    state: State
    says: str
    do: str | None = None

    @property
    def document(self) -> dict[str, Json]:
        return {"name": self.name, "state": self.state, "says": self.says, "do": self.do}

    def __str__(self) -> str:
        return f"{self.state:<8} {self.name}: {self.says}" + (f"; {self.do}" if self.do else "")


def ok(name: str, says: str) -> Check:
    return Check(name=name, state="ok", says=says)


def warning(name: str, says: str, do: str) -> Check:
    return Check(name=name, state="warning", says=says, do=do)


def finding(name: str, says: str, do: str) -> Check:
    return Check(name=name, state="finding", says=says, do=do)


def skipped(name: str, says: str) -> Check:
    return Check(name=name, state="skipped", says=says)
