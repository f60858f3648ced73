"""The ledger of usage in PostgreSQL: each change is one call of one function, in one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.decisions.model import Quota, Reservation
from sidecar.errors import (
    BadQuestion,
    CommitExceedsReservation,
    FactsMisread,
    FactsUnavailable,
    FieldFault,
    IdempotencyKeyReused,
    RefundExceedsUse,
    ReservationSettled,
    UnknownIdempotencyKey,
    UnknownReservation,
    UnknownWorkspace,
    UsageContended,
)
from sidecar.quota.model import (
    AlreadyExists,
    Charged,
    Conflict,
    Consume,
    Expired,
    GivenBack,
    Hold,
    NoCapacity,
    Replayed,
    Settlement,
    UsageNow,
)
from sidecar.store.connections import Query, Refused, array
from sidecar.store.facts_token import token_in
from sidecar.store.postgres import facts_in, usage_in
from sidecar.text.encoding import decoded, encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.catalog.catalog import Catalog
    from sidecar.quota.model import Charge, Counter
    from sidecar.store.connections import Connections

TAKE = Query(
    name=b"take",
    sql=b"SELECT authz.take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    repeatable=False,
)
CONSUME = Query(
    name=b"consume",
    sql=b"SELECT authz.consume($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)",
    repeatable=False,
)
# With a key the query is idempotent: the second call is a replay.
TAKE_BY_KEY = Query(name=TAKE.name, sql=TAKE.sql)
CONSUME_BY_KEY = Query(name=CONSUME.name, sql=CONSUME.sql)
REPEATED = Query(name=b"repeated", sql=b"SELECT authz.repeated($1, $2, $3, $4, $5)")
COMMIT = Query(name=b"commit", sql=b"SELECT authz.commit_reservation($1, $2)")
RELEASE = Query(name=b"release", sql=b"SELECT authz.release_reservation($1)")
REFUND = Query(name=b"refund", sql=b"SELECT authz.refund($1, $2, $3)")
RELEASE_RESOURCE = Query(name=b"release_resource", sql=b"SELECT authz.release_resource($1, $2, $3)")

# lock_not_available, deadlock_detected, query_canceled (our own statement_timeout), serialization_failure
_CONTENDED = frozenset({"55P03", "40P01", "57014", "40001"})


class PostgresLedger:
    """A Ledger on the *connections* of a store of facts: a question needs one of them at a time.

    They have a lock_timeout, so that a wait for a counter times out before the caller does.
    """

    def __init__(self, connections: Connections, /, *, catalog: Catalog) -> None:
        self._connections = connections
        self._meters = tuple(catalog.meters)

    def charge(
        self, charge: Charge, /, *, deadline: float
    ) -> Charged | Replayed | AlreadyExists | NoCapacity | Conflict:
        if charge.counter is not None:
            charged = self._consume(charge, charge.counter, deadline)
            if charged is not None:
                return charged
        meters = sorted(charge.amounts)
        params = (
            str(charge.workspace_id),
            str(token_in(charge.token).version),
            charge.user,
            charge.action,
            array(meters),
            array([str(charge.amounts[meter]) for meter in meters]),
            array([_text(charge.limits[meter]) for meter in meters]),
            charge.resource,
            charge.key,
            charge.fingerprint,
            _text(charge.purpose.ttl_s if isinstance(charge.purpose, Hold) else None),
            None if isinstance(charge.purpose, Consume) else charge.purpose.id,
            charge.decision_id,
            charge.revision,
            _stored_answer(charge),
        )
        query = TAKE_BY_KEY if charge.key else TAKE
        found = self._found(query, params, deadline)
        try:
            outcome = found["outcome"]
            if outcome == "taken":
                return Charged(
                    quota=_quota_in(found["quota"]),
                    reservation=_reservation_in(found["reservation"]),
                    at=datetime.fromisoformat(found["at"]),
                )
            if outcome == "refused":
                return NoCapacity(facts=facts_in(found["facts"], meters=self._meters))
            if outcome in {"stale", "settled"}:
                return Conflict(outcome)
            return _replay_in(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _misread(found, error) from error

    def _consume(self, charge: Charge, counter: Counter, deadline: float) -> Charged | None:
        """None where the fast update does not apply: nothing was charged."""
        [(meter, amount)] = charge.amounts.items()
        token = token_in(charge.token)
        since = token.periods.get(meter)
        if since is None:
            return None
        params = (
            str(charge.workspace_id),
            str(token.version),
            _text(counter.limit),
            since,
            counter.resets_at.isoformat() if counter.resets_at else None,
            token.until,
            charge.user,
            charge.action,
            meter,
            str(amount),
            charge.resource,
            charge.key,
            charge.fingerprint,
            charge.decision_id,
            _stored_answer(charge),
        )
        found = self._found(CONSUME_BY_KEY if charge.key else CONSUME, params, deadline)
        if found is None:
            return None
        try:
            at, used = found
            quota = Quota(limit=counter.limit, used=used, reserved=0, resets_at=counter.resets_at)
            return Charged(quota={meter: quota}, reservation=None, at=datetime.fromisoformat(at))
        except (TypeError, ValueError) as error:
            raise _misread(found, error) from error

    def find_replay(self, charge: Charge, /, *, deadline: float) -> Replayed | AlreadyExists | None:
        params = (
            str(charge.workspace_id),
            array(sorted(charge.amounts)),
            charge.resource,
            charge.key,
            charge.fingerprint,
        )
        found = self._found(REPEATED, params, deadline)
        try:
            return None if found is None else _replay_in(found)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _misread(found, error) from error

    def commit(
        self, reservation: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> Settlement | Expired:
        found = self._found(COMMIT, (reservation, _json(amounts)), deadline)
        outcome = found["outcome"]
        if outcome == "expired":
            return Expired(
                workspace_id=UUID(found["workspace_id"]),
                user=found["user"],
                action=found["action"],
                resource=found["resource"],
                amounts=found["amounts"],
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
                faults=_of_amounts(found["meters"], detail),
            )
        return _settlement_in(found)

    def release(self, reservation: str, /, *, deadline: float) -> Settlement:
        return _settlement_in(self._found(RELEASE, (reservation,), deadline))

    def refund(
        self, workspace: str, key: str, amounts: Mapping[str, int] | None, /, *, deadline: float
    ) -> GivenBack:
        found = self._found(REFUND, (workspace, key, _json(amounts)), deadline)
        if found["outcome"] == "unknown":
            raise UnknownIdempotencyKey("nothing was taken under this key, or its period is over for a day")
        if found["outcome"] == "exceeds":
            raise RefundExceedsUse(_why_not_more(found))
        return _given_back_in(found, workspace)

    def release_resource(self, workspace: str, meter: str, resource: str, /, *, deadline: float) -> GivenBack:
        return _given_back_in(
            self._found(RELEASE_RESOURCE, (workspace, meter, resource), deadline), workspace
        )

    def _found(self, query: Query, params: Sequence[str | bytes | None], deadline: float) -> Any:  # noqa: ANN401 - JSON
        try:
            answer = self._connections.answer(query, _encoded(params), deadline=deadline)
        except UnicodeError as error:
            raise BadQuestion("the request has text that no database can hold") from error
        except Refused as refused:
            if refused.sqlstate in _CONTENDED:
                raise UsageContended(f"PostgreSQL gave up ({refused.sqlstate}): {refused}") from refused
            raise FactsUnavailable(f"PostgreSQL refused ({refused.sqlstate}): {refused}") from refused
        try:
            return None if answer is None else decoded(answer)
        except ValueError as error:
            raise FactsMisread(f"what came is not JSON: {error}") from error


def _stored_answer(charge: Charge) -> bytes:
    return encoded(
        {
            "role": charge.role,
            "plan": charge.plan,
            "message": charge.message,
            "revision": charge.revision,
        }
    )


def _replay_in(found: Any) -> Replayed | AlreadyExists:  # noqa: ANN401 - JSON
    if found["outcome"] == "key_reused":
        raise IdempotencyKeyReused(
            "under this key another request was answered: a new request needs a new key"
        )
    if found["outcome"] != "repeated":
        raise ValueError(found["outcome"])
    if "now" in found:
        return AlreadyExists(
            decision_id=found["decision_id"], revision=found["revision"], now=_usage_now_in(found["now"])
        )
    answer = found["answer"]
    return Replayed(
        decision_id=found["decision_id"],
        revision=answer["revision"],
        role=answer["role"],
        plan=answer["plan"],
        message=answer["message"],
        quota=_quota_in(found["quota"]),
        reservation=_reservation_in(found["reservation"]),
        at=datetime.fromisoformat(found["at"]),
    )


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
            ),
            state=found["state"],
            committed=found["committed"],
            now=_usage_now_in(found["now"]),
            replayed=found["replayed"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _misread(found, error) from error


def _given_back_in(found: Any, workspace: str) -> GivenBack:  # noqa: ANN401 - JSON
    if found["outcome"] == "unknown_workspace":
        raise UnknownWorkspace(f'workspace "{workspace}" does not exist')
    try:
        return GivenBack(
            released=found["released"], now=_usage_now_in(found["now"]), replayed=found["replayed"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _misread(found, error) from error


def _usage_now_in(now: Any) -> UsageNow:  # noqa: ANN401 - JSON
    return UsageNow(
        plan=now["plan"],
        limit_overrides=now["limits"],
        usage={meter: usage_in(*usage) for meter, usage in now["usage"].items()},
    )


def _quota_in(quota: Mapping[str, Any]) -> dict[str, Quota]:
    found = {}
    for meter, (limit, *usage) in sorted(quota.items()):
        of_meter = usage_in(*usage)
        found[meter] = Quota(
            limit=limit, used=of_meter.used, reserved=of_meter.reserved, resets_at=of_meter.resets_at
        )
    return found


def _reservation_in(told: Any) -> Reservation | None:  # noqa: ANN401 - JSON
    if told is None:
        return None
    return Reservation(
        id=told["id"], expires_at=datetime.fromisoformat(told["expires_at"]), amounts=told["amounts"]
    )


def _why_not_more(found: Any) -> str:  # noqa: ANN401 - JSON
    if found["given_back"] is not None:
        return f"{_in_words(found['given_back'])} were given back before, and a key is refunded once"
    if not found["taken"]:
        return "what was reserved under this key has not been committed: release the reservation"
    return f"{_in_words(found['taken'])} were taken under this key"


def _of_amounts(meters: Sequence[str], detail: str) -> tuple[FieldFault, ...]:
    return tuple(FieldFault(field=("amounts", meter), detail=detail) for meter in meters)


def _in_words(amounts: Mapping[str, int]) -> str:
    return ", ".join(f"{amount} {meter}" for meter, amount in sorted(amounts.items())) or "none"


def _misread(found: object, error: Exception) -> FactsMisread:
    return FactsMisread(f"the ledger outside its contract: {error!r} in {found}")


def _encoded(params: Sequence[str | bytes | None]) -> list[bytes | None]:
    """UnicodeError for a NUL, where libpq would cut the text off, so that it could name something else."""
    encoded = [each.encode() if isinstance(each, str) else each for each in params]
    if b"\0" in b"".join(filter(None, encoded)):
        raise UnicodeError("NUL")
    return encoded


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)


def _json(amounts: Mapping[str, int] | None) -> bytes | None:
    return None if amounts is None else encoded(dict(amounts))
