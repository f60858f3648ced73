"""What the core asks of the world: a policy engine and a store of facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.model import Facts, Verdict


class PolicyEngine(Protocol):
    @property
    def name(self) -> str:
        """``opa`` or ``embedded``: a metric's label."""
        ...

    @property
    def revision(self) -> str:
        """The revision that this process was started with; a verdict by another is refused."""
        ...

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        """*situation* is canonical JSON; *deadline* is on the monotonic clock, in seconds.

        EngineUnavailable, EngineMisbehaved and RevisionMismatch are raised; a verdict never stands for
        an outage.
        """
        ...


class FactStore(Protocol):
    def facts(self, members: Sequence[tuple[str, str]], /, *, deadline: float) -> list[Facts | None]:
        """The facts of each (user, workspace) in order, in one round trip; None for whoever is no member.

        An unknown user, an unknown workspace and a stranger are the same None.
        """
        ...

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        """The facts of up to *limit* workspaces of *user*, ordered by slug, those behind *after*."""
        ...
