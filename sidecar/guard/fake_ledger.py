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
    committed: Mapping[str, int] | None = None
    released: bool = False


class FakeLedger:
    """*used* is by workspace and meter. A hold counts as long as it is neither settled nor expired."""

    def __init__(self) -> None:
        self.used: Counter[tuple[str, str]] = Counter()
        self._holds: dict[str, _Hold] = {}
        self._taken: dict[Key, Mapping[str, int]] = {}
        self._given_back: dict[Key, Mapping[str, int]] = {}
        self._made: dict[tuple[str, str, str], int] = {}

    def reserved(self, workspace: str, meter: str) -> int:
        now = datetime.now(UTC)
        return sum(
            hold.amounts.get(meter, 0)
            for hold in self._holds.values()
            if hold.of[0] == workspace
            and hold.committed is None
            and not hold.released
            and now < hold.expires_at
        )

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
        for meter, amount in amounts.items():
            self.used[of[0], meter] += amount
            if made is not None:
                self._made[of[0], meter, made] = amount
        self._taken[of] = amounts

    def exists(self, workspace: str, meters: Iterable[str], resource: str) -> bool:
        return all((workspace, meter, resource) in self._made for meter in meters)

    def hold(
        self, of: Key, amounts: Mapping[str, int], limits: Mapping[str, int | None], *, ttl_s: int
    ) -> dict[str, Any]:
        """The reservation, as it is answered."""
        hold_id, expires_at = secrets.token_hex(16), datetime.now(UTC) + timedelta(seconds=ttl_s)
        self._holds[hold_id] = _Hold(of=of, amounts=amounts, expires_at=expires_at, limits=limits)
        return _reservation(hold_id, self._holds[hold_id])

    def commit(self, hold_id: str, amounts: Mapping[str, int]) -> dict[str, Any]:
        """The answer. An expired hold is never committed here; the real one decides again."""
        hold = self._hold(hold_id)
        if any(amount < 1 for amount in amounts.values()):
            raise Problem(400, "invalid_request")
        if amounts.keys() - hold.amounts.keys():
            raise Problem(400, "meter_not_taken")
        wanted = {**hold.amounts, **amounts}
        replayed = hold.committed == wanted
        if hold.released or (hold.committed is not None and not replayed):
            raise Problem(409, "reservation_settled")
        if any(amount > hold.amounts[meter] for meter, amount in wanted.items()):
            raise Problem(409, "commit_exceeds_reservation")
        if not replayed:
            if datetime.now(UTC) >= hold.expires_at:
                raise Problem(409, "reservation_expired")
            hold.committed = wanted
            self.take(hold.of, wanted)
        return self._settled(hold_id, hold, state="committed", replayed=replayed)

    def release(self, hold_id: str) -> dict[str, Any]:
        hold = self._hold(hold_id)
        if hold.committed is not None:
            raise Problem(409, "reservation_settled")
        replayed, hold.released = hold.released, True
        return self._settled(hold_id, hold, state="released", replayed=replayed)

    def give_back(self, of: Key, amounts: Mapping[str, int] | None) -> dict[str, Any]:
        if of not in self._taken:
            raise Problem(404, "unknown_idempotency_key")
        taken, before = self._taken[of], self._given_back.get(of)
        wanted = amounts if amounts is not None else before if before is not None else taken
        if (before is not None and before != wanted) or any(
            amount > taken.get(meter, 0) for meter, amount in wanted.items()
        ):
            raise Problem(409, "refund_exceeds_use")
        if before is None:
            self._given_back[of] = wanted
            for meter, amount in wanted.items():
                self.used[of[0], meter] -= amount
        return self._given(of[0], wanted, replayed=before is not None)

    def give_back_made(self, workspace: str, meter: str, resource: str) -> dict[str, Any]:
        amount = self._made.pop((workspace, meter, resource), 0)
        self.used[workspace, meter] -= amount
        return self._given(workspace, {meter: amount}, replayed=not amount)

    def _in_use(self, workspace: str, meter: str) -> int:
        return self.used[workspace, meter] + self.reserved(workspace, meter)

    def _hold(self, hold_id: str) -> _Hold:
        if hold_id not in self._holds:
            raise Problem(404, "unknown_reservation")
        return self._holds[hold_id]

    def _settled(self, hold_id: str, hold: _Hold, *, state: str, replayed: bool) -> dict[str, Any]:
        reservation = {**_reservation(hold_id, hold), "state": state, "committed": hold.committed}
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
    return {"id": hold_id, "expires_at": hold.expires_at.isoformat(), "amounts": dict(hold.amounts)}
