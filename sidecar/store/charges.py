"""How a charge is written for PostgreSQL, alone or as one of a group, and how its outcome is read."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sidecar.decisions.model import Quota, Reservation
from sidecar.errors import FactsMisread, IdempotencyKeyReused
from sidecar.quota.model import (
    AlreadyExists,
    Charged,
    Conflict,
    Consume,
    Hold,
    NoCapacity,
    Replayed,
    UsageNow,
)
from sidecar.store.connections import Query, array
from sidecar.store.facts_token import token_in
from sidecar.store.postgres import facts_in, usage_in
from sidecar.store.session import not_storable
from sidecar.text.encoding import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.decisions.model import ReservationState
    from sidecar.quota.model import Charge
    from sidecar.store.clock import Clock
    from sidecar.store.names import Spoken

Outcome = Charged | Replayed | AlreadyExists | NoCapacity | Conflict
Row = tuple[object, ...]  # of COLUMNS

TAKE = Query(
    name=b"take",
    sql=b"SELECT authz.take($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    b" FROM set_config('authz.expected_at', $16, true) AS expected,"
    b" set_config('authz.worker_at', $17, true) AS worker, authz.change_as($18)",
    repeatable=False,
)
# With a key the query is idempotent: the second call is a replay.
TAKE_BY_KEY = Query(name=TAKE.name, sql=TAKE.sql)
CONSUME = Query(
    name=b"consume",
    sql=b"SELECT authz.consume($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    b" FROM authz.change_as($16)",
    repeatable=False,
)
CONSUME_MANY = Query(
    name=b"consume_many",
    sql=b"SELECT authz.consume_many($1, $2) FROM authz.change_as($3)",
    repeatable=False,
)
COLUMNS = (
    "workspace_id",
    "facts_version",
    "ceiling",
    "starts",
    "ends",
    "until",
    "user_id",
    "action",
    "meter",
    "amount",
    "resource",
    "key",
    "fingerprint",
    "decision_id",
    "answer",
)


def take_of(charge: Charge, clock: Clock, spoken: Spoken) -> list[bytes | None]:
    """The parameters of TAKE, which knows all charges. BadQuestion for text that cannot be stored."""
    amounts = spoken.keys_to_stored("meter", charge.amounts)
    limits = spoken.keys_to_stored("meter", charge.limits)
    meters = sorted(amounts)
    params = (
        str(charge.workspace_id),
        str(token_in(charge.token).version),
        charge.user,
        spoken.to_stored("action", charge.action),
        array(meters),
        array([str(amounts[meter]) for meter in meters]),
        array([_text(limits[meter]) for meter in meters]),
        charge.resource,
        charge.key,
        charge.fingerprint,
        _text(charge.purpose.ttl_s if isinstance(charge.purpose, Hold) else None),
        None if isinstance(charge.purpose, Consume) else charge.purpose.id,
        charge.decision_id,
        charge.revision,
        encoded(_answer_in_stored_names(_stored_answer(charge), spoken)),
        clock.expected(),
        clock.worker_at(),
    )
    return encode_params(params)


def row_of(charge: Charge) -> Row | None:
    """As authz.consume and authz.consume_many are asked, in our names; None where they do not apply.

    BadQuestion for text that cannot be stored, which would make PostgreSQL refuse a whole group.
    """
    counter = charge.counter
    if counter is None:
        return None
    [(meter, amount)] = charge.amounts.items()
    token = token_in(charge.token)
    since = token.periods.get(meter)
    if since is None:
        return None
    texts = (
        charge.user,
        charge.action,
        meter,
        charge.resource,
        charge.key,
        charge.fingerprint,
        charge.decision_id,
    )
    encode_params(["".join(filter(None, texts))])
    return (
        charge.workspace_id,
        token.version,
        counter.limit,
        since,
        counter.resets_at,
        token.until,
        charge.user,
        charge.action,
        meter,
        amount,
        charge.resource,
        charge.key,
        charge.fingerprint,
        charge.decision_id,
        _stored_answer(charge),
    )


def consume_of(row: Row, spoken: Spoken) -> list[bytes | None]:
    """The parameters of CONSUME."""
    return [None if value is None else _param(value) for value in _in_stored_names(row, spoken)]


def consume_many_of(rows: Sequence[Row], spoken: Spoken, *, waits: bool) -> list[bytes | None]:
    """The parameters of CONSUME_MANY."""
    columns = zip(*(_in_stored_names(row, spoken) for row in rows), strict=True)
    return [encoded(dict(zip(COLUMNS, columns, strict=True))), b"true" if waits else b"false"]


def charged_in(charge: Charge, at: Any, used: Any) -> Charged:  # noqa: ANN401 - JSON
    """What authz.consume says of a charge that is done: when, and what was used by then."""
    counter = charge.counter
    if counter is None or type(used) is not int:
        raise misread([at, used], TypeError("no figure"))
    [meter] = charge.amounts
    quota = Quota(limit=counter.limit, used=used, reserved=0, resets_at=counter.resets_at)
    try:
        return Charged(quota={meter: quota}, reservation=None, at=datetime.fromisoformat(at))
    except (TypeError, ValueError) as error:
        raise misread([at, used], error) from error


def outcome_in(found: Any, *, meters: Sequence[str]) -> Outcome:  # noqa: ANN401 - JSON
    """What authz.take says. IdempotencyKeyReused; FactsMisread for what it does not promise."""
    try:
        outcome = found["outcome"]
        if outcome == "taken":
            return Charged(
                quota=_quota_in(found["quota"]),
                reservation=_reservation_in(found["reservation"], state="held"),
                at=datetime.fromisoformat(found["at"]),
            )
        if outcome == "refused":
            return NoCapacity(facts=facts_in(found["facts"], meters=meters))
        if outcome in {"stale", "settled"}:
            return Conflict(outcome)
        return _replay_in(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise misread(found, error) from error


def replay_in(found: Any) -> Replayed | AlreadyExists | None:  # noqa: ANN401 - JSON
    """What authz.repeated says. IdempotencyKeyReused; FactsMisread for what it does not promise."""
    try:
        return None if found is None else _replay_in(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise misread(found, error) from error


def usage_now_in(now: Any) -> UsageNow:  # noqa: ANN401 - JSON
    return UsageNow(
        plan=now["plan"],
        limit_overrides=now["limits"],
        usage={meter: usage_in(*usage) for meter, usage in now["usage"].items()},
    )


def misread(found: object, error: Exception) -> FactsMisread:
    return FactsMisread(f"the ledger outside its contract: {error!r} in {found}")


def encode_params(params: Sequence[str | bytes | None]) -> list[bytes | None]:
    """BadQuestion for a NUL, where libpq would cut the text off, so that it could name something else."""
    try:
        encoded_params = [each.encode() if isinstance(each, str) else each for each in params]
    except UnicodeError as error:
        raise not_storable() from error
    if b"\0" in b"".join(filter(None, encoded_params)):
        raise not_storable()
    return encoded_params


def _in_stored_names(row: Row, spoken: Spoken) -> Row:
    if spoken.same:
        return row
    values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
    values["action"] = spoken.to_stored("action", values["action"])
    values["meter"] = spoken.to_stored("meter", values["meter"])
    values["answer"] = _answer_in_stored_names(values["answer"], spoken)
    return tuple(values.values())


def _answer_in_stored_names(answer: dict[str, Any], spoken: Spoken) -> dict[str, Any]:
    stored = answer | {
        "role": spoken.to_stored("role", answer["role"]),
        "plan": spoken.to_stored("plan", answer["plan"]),
    }
    if "frees_at" in answer:
        stored["frees_at"] = spoken.keys_to_stored("meter", answer["frees_at"])
    return stored


def _stored_answer(charge: Charge) -> dict[str, object]:
    answer: dict[str, object] = {
        "role": charge.role,
        "plan": charge.plan,
        "message": charge.message,
        "revision": charge.revision,
    }
    if charge.frees_at:
        answer["frees_at"] = {meter: moment.isoformat() for meter, moment in charge.frees_at.items()}
    return answer


def _replay_in(found: Any) -> Replayed | AlreadyExists:  # noqa: ANN401 - JSON
    if found["outcome"] == "key_reused":
        raise IdempotencyKeyReused(
            "under this key another request was answered: a new request needs a new key"
        )
    if found["outcome"] != "repeated":
        raise ValueError(found["outcome"])
    if "now" in found:
        return AlreadyExists(
            decision_id=found["decision_id"], revision=found["revision"], now=usage_now_in(found["now"])
        )
    answer, now = found["answer"], found["usage_now"]
    return Replayed(
        decision_id=found["decision_id"],
        revision=answer["revision"],
        role=answer["role"],
        plan=answer["plan"],
        message=answer["message"],
        quota=_quota_in(found["quota"]),
        reservation=_reservation_in(found["reservation"], state=found["state"]),
        at=datetime.fromisoformat(now["at"] if now else found["at"]),
        frees_at={meter: datetime.fromisoformat(text) for meter, text in answer.get("frees_at", {}).items()},
        now=usage_now_in(now) if now else None,
    )


def _quota_in(quota: Mapping[str, Any]) -> dict[str, Quota]:
    found = {}
    for meter, (limit, *usage) in sorted(quota.items()):
        of_meter = usage_in(*usage)
        found[meter] = Quota(
            limit=limit, used=of_meter.used, reserved=of_meter.reserved, resets_at=of_meter.resets_at
        )
    return found


def _reservation_in(told: Any, *, state: ReservationState) -> Reservation | None:  # noqa: ANN401 - JSON
    if told is None:
        return None
    return Reservation(
        id=told["id"],
        expires_at=datetime.fromisoformat(told["expires_at"]),
        amounts=told["amounts"],
        state=state,
    )


def _param(value: object) -> bytes:
    match value:
        case str() | int() | UUID():
            return str(value).encode()
        case datetime():
            return value.isoformat().encode()
        case _:
            return encoded(value)


def _text(number: int | None) -> str | None:
    return None if number is None else str(number)
