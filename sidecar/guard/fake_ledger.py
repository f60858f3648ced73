"""Usage in memory, for the fake sidecar: it takes, holds and gives back like the real one."""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Key = tuple[str, str]  # workspace, idempotency key


class Problem(Exception):
    """A problem as the real one answers it: *status* and *code*."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


@dataclass(slots=True, kw_only=True)
class _Hold:
    of: Key
    amounts: Mapping[str, int]
    expires_at: datetime
    limits: Mapping[str, int | None]
    made: str | None
    committed: Mapping[str, int] | None = None
    released: str | None = None  # the state in which it was found

    @property
    def state(self) -> str:
        if self.committed is not None:
            return "committed"
        if self.released is not None:
            return "released" if self.released == "held" else "expired"
        return "held" if datetime.now(UTC) < self.expires_at else "expired"


@dataclass(slots=True, kw_only=True, eq=False)
class _Effect:
    """What was taken under a key; *amounts* is None while it is only held."""

    amounts: Mapping[str, int] | None
    made: str | None
    hold: str | None = None
    given_back: Mapping[str, int] | None = None


class FakeLedger:
    """*used* is by workspace and meter. A hold counts as long as it is neither settled nor expired."""

    def __init__(self) -> None:
        self.used: Counter[tuple[str, str]] = Counter()
        self._holds: dict[str, _Hold] = {}
        self._effects: dict[Key, _Effect] = {}
        self._made: dict[tuple[str, str, str], tuple[int, _Effect]] = {}

    def reserved(self, workspace: str, meter: str) -> int:
        return sum(
            hold.amounts.get(meter, 0)
            for hold in self._holds.values()
            if hold.of[0] == workspace and hold.state == "held"
        )

    def stands(self, of: Key) -> bool:
        """Whether something was taken under this key, and was not given back."""
        effect = self._effects.get(of)
        if effect is None:
            return False
        if effect.amounts is None:
            return effect.hold is not None and self._holds[effect.hold].state == "held"
        for meter, amount in effect.amounts.items() if effect.made is not None else ():
            _, by = self._made.get((of[0], meter, effect.made or ""), (0, None))
            if by is None or (amount and by is not effect):
                return False
        given_back = effect.given_back or {}
        taken = {meter: amount for meter, amount in effect.amounts.items() if amount}
        return not taken or any(given_back.get(meter, 0) < amount for meter, amount in taken.items())

    def changes(self, of: Key, limits: Mapping[str, int | None]) -> dict[str, Any]:
        """What a repeat under a key that stands is told otherwise than at first."""
        effect = self._effects[of]
        if effect.given_back is None and (effect.hold is None or effect.amounts is None):
            return {}
        changes: dict[str, Any] = {"quota": self.quota(of[0], limits)}
        if effect.hold is not None:
            changes["reservation"] = _reservation(effect.hold, self._holds[effect.hold])
        return changes

    def quota(self, workspace: str, limits: Mapping[str, int | None]) -> dict[str, Any]:
        """As it is answered."""
        return {
            meter: {
                "limit": limit,
                "used": self.used[workspace, meter],
                "reserved": self.reserved(workspace, meter),
                "remaining": None if limit is None else max(0, limit - self._in_use(workspace, meter)),
                "resets_at": None,
            }
            for meter, limit in limits.items()
        }

    def fits(self, workspace: str, amounts: Mapping[str, int], limits: Mapping[str, int | None]) -> bool:
        return all(
            limit is None or self._in_use(workspace, meter) + amounts[meter] <= limit
            for meter, limit in limits.items()
        )

    def take(self, of: Key, amounts: Mapping[str, int], *, made: str | None = None) -> None:
        """*made* is the name of the thing that a level is taken for."""
        self._effects[of] = effect = _Effect(amounts=None, made=made)
        self._take(of[0], effect, amounts)

    def exists(self, workspace: str, meters: Iterable[str], resource: str) -> bool:
        return all((workspace, meter, resource) in self._made for meter in meters)

    def hold(
        self,
        of: Key,
        amounts: Mapping[str, int],
        limits: Mapping[str, int | None],
        *,
        ttl_s: int,
        made: str | None = None,
    ) -> dict[str, Any]:
        """The reservation, as it is answered."""
        hold_id, expires_at = secrets.token_hex(16), datetime.now(UTC) + timedelta(seconds=ttl_s)
        self._holds[hold_id] = _Hold(of=of, amounts=amounts, expires_at=expires_at, limits=limits, made=made)
        self._effects[of] = _Effect(amounts=None, made=made, hold=hold_id)
        return _reservation(hold_id, self._holds[hold_id])

    def commit(self, hold_id: str, amounts: Mapping[str, int] | None) -> dict[str, Any]:
        """The answer. An expired hold is never committed here; the real one decides again."""
        hold = self._hold(hold_id)
        wanted = {**hold.amounts, **(amounts or {})}
        if wanted.keys() - hold.amounts.keys():
            raise Problem(400, "meter_not_taken")
        if amounts is not None and (not any(wanted.values()) or not amounts or min(amounts.values()) < 0):
            raise Problem(400, "invalid_request")
        replayed = hold.committed == wanted
        if hold.released or (hold.committed is not None and not replayed):
            raise Problem(409, "reservation_settled")
        if any(amount > hold.amounts[meter] for meter, amount in wanted.items()):
            raise Problem(409, "commit_exceeds_reservation")
        if not replayed:
            if datetime.now(UTC) >= hold.expires_at:
                raise Problem(409, "reservation_expired")
            hold.committed = wanted
            effect = self._effects[hold.of]  # still its own: a key is free only when its hold is over
            self._take(hold.of[0], effect, {meter: amount for meter, amount in wanted.items() if amount})
        return self._settled(hold_id, hold, replayed=replayed)

    def release(self, hold_id: str) -> dict[str, Any]:
        hold = self._hold(hold_id)
        if hold.committed is not None:
            raise Problem(409, "reservation_settled")
        replayed, hold.released = hold.released is not None, hold.released or hold.state
        return self._settled(hold_id, hold, replayed=replayed)

    def give_back(self, of: Key, amounts: Mapping[str, int] | None) -> dict[str, Any]:
        if amounts is not None and (not amounts or min(amounts.values()) < 1):
            raise Problem(400, "invalid_request")
        if of not in self._effects:
            raise Problem(404, "unknown_idempotency_key")
        effect = self._effects[of]
        taken, before = effect.amounts, effect.given_back
        wanted = amounts if amounts is not None else before if before is not None else taken or {}
        if (
            taken is None
            or (before is not None and before != wanted)
            or any(amount > taken.get(meter, 0) for meter, amount in wanted.items())
        ):
            raise Problem(409, "refund_exceeds_use")
        gone = {
            meter: amount
            for meter, amount in wanted.items()
            if before is None and amount and self._let_go(of[0], meter, effect, amount)
        }
        effect.given_back = wanted
        for meter, amount in gone.items():
            self.used[of[0], meter] -= amount
        return self._given(of[0], wanted, replayed=not gone)

    def give_back_made(self, workspace: str, meter: str, resource: str) -> dict[str, Any]:
        amount, _ = self._made.pop((workspace, meter, resource), (0, None))
        self.used[workspace, meter] -= amount
        return self._given(workspace, {meter: amount}, replayed=not amount)

    def _take(self, workspace: str, effect: _Effect, amounts: Mapping[str, int]) -> None:
        """What exists by name is not made again."""
        made = effect.made or ""
        effect.amounts = {
            meter: 0 if (workspace, meter, made) in self._made else amount
            for meter, amount in amounts.items()
        }
        for meter, amount in effect.amounts.items():
            self.used[workspace, meter] += amount
            if made and amount:
                self._made[workspace, meter, made] = amount, effect

    def _let_go(self, workspace: str, meter: str, effect: _Effect, amount: int) -> bool:
        """Whether it is still there to be given back."""
        if effect.made is None:
            return True
        there, by = self._made.get((workspace, meter, effect.made), (0, None))
        if by is not effect:
            return False
        self._made[workspace, meter, effect.made] = there - amount, effect
        if there <= amount:
            del self._made[workspace, meter, effect.made]
        return True

    def _in_use(self, workspace: str, meter: str) -> int:
        return self.used[workspace, meter] + self.reserved(workspace, meter)

    def _hold(self, hold_id: str) -> _Hold:
        if hold_id not in self._holds:
            raise Problem(404, "unknown_reservation")
        return self._holds[hold_id]

    def _settled(self, hold_id: str, hold: _Hold, *, replayed: bool) -> dict[str, Any]:
        reservation = {**_reservation(hold_id, hold), "committed": hold.committed}
        return {
            "reservation": reservation,
            "quota": self.quota(hold.of[0], hold.limits),
            **({"replayed": True} if replayed else {}),
        }

    def _given(self, workspace: str, amounts: Mapping[str, int], *, replayed: bool) -> dict[str, Any]:
        return {
            "released": amounts,
            "quota": self.quota(workspace, dict.fromkeys(amounts)),
            **({"replayed": True} if replayed else {}),
        }


def _reservation(hold_id: str, hold: _Hold) -> dict[str, Any]:
    return {
        "id": hold_id,
        "expires_at": hold.expires_at.isoformat(),
        "amounts": dict(hold.amounts),
        "state": hold.state,
    }
