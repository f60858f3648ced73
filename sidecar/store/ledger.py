"""The ledger of usage in PostgreSQL: each change is one call of one function, in one transaction."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.decisions.model import Reservation
from sidecar.errors import (
    BadQuestion,
    CommitExceedsReservation,
    FieldFault,
    RefundExceedsUse,
    ReservationExpired,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownReservation,
    UnknownWorkspace,
)
from sidecar.quota.model import Expired, GivenBack, Settlement
from sidecar.store.charges import (
    TAKE,
    TAKE_BY_KEY,
    encode_params,
    misread,
    outcome_in,
    replay_in,
    row_of,
    take_of,
    usage_now_in,
)
from sidecar.store.clock import Clock
from sidecar.store.connections import Query
from sidecar.store.names import Keyed, ManyNames, Name, Names, params_in
from sidecar.store.take import Take
from sidecar.store.takes import Takes
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.quota.model import AlreadyExists, Charge, Replayed
    from sidecar.store.charges import Outcome
    from sidecar.store.connections import Connections
    from sidecar.store.names import Param, ParamsOf
    from sidecar.store.take import Done

REPEATED = Query(name=b"repeated", sql=b"SELECT authz.repeated($1, $2, $3, $4, $5) FROM authz.change_as($6)")
COMMIT = Query(name=b"commit", sql=b"SELECT authz.commit_reservation($1, $2) FROM authz.change_as($3)")
RELEASE = Query(name=b"release", sql=b"SELECT authz.release_reservation($1) FROM authz.change_as($2)")
REFUND = Query(name=b"refund", sql=b"SELECT authz.refund($1, $2, $3) FROM authz.change_as($4)")
RELEASE_RESOURCE = Query(
    name=b"release_resource", sql=b"SELECT authz.release_resource($1, $2, $3) FROM authz.change_as($4)"
)


class PostgresLedger:
    """A Ledger on *connections*, which are open and better its own: some of them may wait for locks.

    At least two, so that a workspace that is locked holds up nobody else.
    """

    def __init__(
        self,
        connections: Connections,
        /,
        *,
        catalog: Catalog,
        names: Names | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._loop = connections.loop
        self._names = names or Names()
        self._clock = clock or Clock()
        self._takes = Takes(connections, names=self._names, clock=self._clock)
        self._meters = tuple(catalog.meters)

    def close(self) -> None:
        """Before the connections, from any thread; whoever waits is told."""
        self._loop.run(self._takes.end)

    def ask(self, charge: Charge, /, *, deadline: float, done: Done) -> None:
        """As `charge`, on the loop of the connections: *done* gets the outcome or the error, once and later.

        BadQuestion at once for text that cannot be stored.
        """
        # authz.take alone looks at the clock: a reservation may have ended by one that is not trusted.
        row = None if self._clock.is_apart else row_of(charge)
        if row is None:
            take_of(charge, self._clock, self._names.spoken)
        take = Take(
            charge.workspace_id,
            TAKE_BY_KEY if charge.key else TAKE,
            partial(take_of, charge, self._clock),
            partial(outcome_in, meters=self._meters),
            deadline=deadline,
            done=done,
            charge=charge,
            row=row,
        )
        skew = self._clock.skew()
        if skew is None:
            self._takes.ask(take)
        else:
            take.fail(skew)

    def ask_replay(self, charge: Charge, /, *, deadline: float, done: Done) -> None:
        """As `find_replay`, as `ask`."""
        params = _checked(
            str(charge.workspace_id),
            ManyNames("meter", sorted(charge.amounts)),
            charge.resource,
            charge.key,
            charge.fingerprint,
        )
        self._takes.ask(Take(charge.workspace_id, REPEATED, params, replay_in, deadline=deadline, done=done))

    def charge(self, charge: Charge, /, *, deadline: float) -> Outcome:
        return self._loop.answer(
            lambda done: self.ask(charge, deadline=deadline, done=done), deadline=deadline
        )

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        return self._loop.answer(
            lambda done: self.ask_replay(charge, deadline=deadline, done=done), deadline=deadline
        )

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        found = self._found(COMMIT, (reservation, Keyed("meter", amounts)), deadline)
        outcome = found["outcome"]
        if outcome == "expired":
            return Expired(
                workspace_id=UUID(found["workspace_id"]),
                user=found["user"],
                action=found["action"],
                resource=found["resource"],
                amounts=found["amounts"],
            )
        if outcome == "taken_anew":
            raise ReservationExpired("another request has taken its idempotency key since")
        if outcome == "nothing":
            raise BadQuestion(
                "to take nothing of a reservation, release it",
                faults=_of_amounts(sorted(amounts or {}), "is 0, as all the others are: release it instead"),
            )
        if outcome == "exceeds":
            held = _in_words(found["amounts"])
            raise CommitExceedsReservation(
                f"only {held} are reserved; the reservation stays",
                faults=_of_amounts(found["meters"], f"is more than is reserved, which is {held}"),
            )
        if outcome == "not_held":
            detail = f"is not reserved; reserved are {_in_words(found['amounts'])}"
            raise BadQuestion(
                "an amount of a meter that is not reserved",
                code="meter_not_taken",
                faults=_of_amounts(found["meters"], detail, known=tuple(found["amounts"])),
            )
        return _settlement_in(found)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        return _settlement_in(self._found(RELEASE, (reservation,), deadline))

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        found = self._found(REFUND, (workspace, key, Keyed("meter", amounts)), deadline)
        if found["outcome"] == "unknown":
            raise UnknownIdempotencyKey("nothing was taken under this key, or its period is over for a day")
        if found["outcome"] == "exceeds":
            raise RefundExceedsUse(_why_not_more(found))
        return _given_back_in(found, workspace)

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        return _given_back_in(
            self._found(RELEASE_RESOURCE, (workspace, Name("meter", meter), resource), deadline), workspace
        )

    def _found(self, query: Query, params: Sequence[Param], deadline: float) -> Any:  # noqa: ANN401 - JSON
        params_of = _checked(*params)

        def ask(done: Done) -> None:
            # By the reservation, or the workspace as it is called here: they may not know the other.
            self._takes.ask(Take(params[0], query, params_of, _as_it_is, deadline=deadline, done=done))

        return self._loop.answer(ask, deadline=deadline)


def _settlement_in(found: Any) -> Settlement:  # noqa: ANN401 - JSON
    if found["outcome"] == "unknown":
        raise UnknownReservation("there is no reservation of this id")
    if found["outcome"] in {"committed", "released"}:
        raise ReservationSettled(f"the reservation is {found['outcome']} already")
    try:
        return Settlement(
            reservation=Reservation(
                id=found["id"],
                expires_at=datetime.fromisoformat(found["expires_at"]),
                amounts=found["amounts"],
                state=found["state"],
            ),
            committed=found["committed"],
            now=usage_now_in(found["now"]),
            replayed=found["replayed"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise misread(found, error) from error


def _given_back_in(found: Any, workspace: str) -> GivenBack:  # noqa: ANN401 - JSON
    if found["outcome"] == "unknown_workspace":
        raise UnknownWorkspace(f'workspace "{workspace}" does not exist')
    try:
        return GivenBack(
            released=found["released"], now=usage_now_in(found["now"]), replayed=found["replayed"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise misread(found, error) from error


def _why_not_more(found: Any) -> str:  # noqa: ANN401 - JSON
    if found["given_back"] is not None:
        return f"{_in_words(found['given_back'])} were given back before, and a key is refunded once"
    if not found["taken"]:
        return "what was reserved under this key has not been committed: release the reservation"
    return f"{_in_words(found['taken'])} were taken under this key"


def _of_amounts(meters: Sequence[str], detail: str, *, known: tuple[str, ...] = ()) -> tuple[FieldFault, ...]:
    return tuple(
        FieldFault(field=("amounts", meter), detail=detail, suggestion=nearest(meter, known))
        for meter in meters
    )


def _in_words(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{amount} {meter}" for meter, amount in sorted(amounts.items())) or "none"


def _checked(*params: Param) -> ParamsOf:
    """BadQuestion at once for text that cannot be stored."""
    encode_params([each for each in params if isinstance(each, str)])
    return partial(params_in, params)


def _as_it_is(found: Any) -> Any:  # noqa: ANN401 - JSON
    return found
