"""What a decision asks of the world: a policy engine and a store of facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from sidecar.decisions.model import Facts, Roster, ToCome, Verdict


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


class RuleEngine(Protocol):
    """What evaluates policies of any kind, verdict or not."""

    @property
    def name(self) -> str: ...

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        """What *rule* (``data.authz.decision``) says when *given*, which is JSON, is its input.

        EngineMisbehaved where it says nothing, EngineUnavailable when nothing came in time.
        """
        ...


class PlainFacts(Protocol):
    """As Facts, what a question needs that takes nothing. *overrides* are of features.

    *at* is None where whoever has read them says it of all of them together.
    """

    @property
    def workspace_id(self) -> str: ...
    @property
    def slug(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def plan(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def overrides(self) -> Mapping[str, bool] | None: ...
    @property
    def version(self) -> int | None: ...
    @property
    def at(self) -> datetime | None: ...
    @property
    def lag_ms(self) -> int | None: ...

    def facts(self, at: datetime) -> Facts:
        """All of it, true *at* that time, and no usage. ValueError if *workspace_id* is no id."""
        ...


# Of one (user, workspace), with the time that it is true of; None for whoever is no member.
PlainFound: TypeAlias = "tuple[PlainFacts, datetime] | None"


class FactStore(Protocol):
    def facts(
        self,
        members: Sequence[tuple[str, str]],
        meters: Sequence[tuple[str, ...]] | None = None,
        /,
        *,
        deadline: float,
    ) -> list[Facts | None]:
        """The facts of each (user, workspace) in order, in one round trip; None for whoever is no member.

        An unknown user, an unknown workspace and a stranger are the same None. *meters* are those whose
        limits and usage each of them needs, and of no others are any told; None: all meters of all of them.
        """
        ...

    def to_come(
        self, meters: Mapping[UUID, Sequence[str]], /, *, deadline: float
    ) -> dict[UUID, Mapping[str, ToCome]]:
        """What will happen by itself to those meters of each workspace, in one round trip.

        A workspace that is gone is missing.
        """
        ...

    def workspaces_of(self, user: str, /, *, after: str | None, limit: int, deadline: float) -> list[Facts]:
        """The facts of up to *limit* workspaces of *user*, ordered by slug, those behind *after*."""
        ...

    def members_of(self, workspace: str, /, *, after: str | None, limit: int, deadline: float) -> Roster:
        """Up to *limit* members of *workspace*, ordered by user id, those behind *after*.

        A workspace that does not exist has none.
        """
        ...
