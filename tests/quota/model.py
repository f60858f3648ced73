"""What quota should be, in plain numbers: one workspace, one who asks, no database and no clock."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog

Outcome = Literal["taken", "replayed", "quota_exceeded", "role_insufficient", "not_a_member", "key_reused"]


@dataclass
class Key:
    asked: tuple[Any, ...]
    taken: dict[str, int] | None
    resource: str | None
    by: str
    hold: Hold | None
    given_back: dict[str, int] | None = None


@dataclass
class Hold:
    id: str
    by: str
    amounts: dict[str, int]
    key: str | None
    resource: str | None
    state: str = "held"
    given_up: bool = False  # released, in its time or later
    committed: dict[str, int] = field(default_factory=dict)


class Model:
    def __init__(self, catalog: Catalog, plan: str) -> None:
        self._catalog = catalog
        self.plan = plan
        self.role: str | None = "member"
        self.overrides: dict[str, int | None] = {}
        self.used = dict.fromkeys(["lifetime", "minutes", "projects", "rooms"], 0)
        self.keys: dict[str, Key] = {}
        self.holds: dict[str, Hold] = {}
        self.made: dict[tuple[str, str], tuple[int, str]] = {}

    def reserved(self, meter: str) -> int:
        return sum(hold.amounts.get(meter, 0) for hold in self.holds.values() if hold.state == "held")

    def limit(self, meter: str) -> int | None:
        return (
            self.overrides[meter] if meter in self.overrides else self._catalog.plans[self.plan].limits[meter]
        )

    def may(self, amounts: dict[str, int]) -> Outcome:
        """If it were asked for the first time."""
        if self.role is None:
            return "not_a_member"
        if self.role == "reader":
            return "role_insufficient"
        for meter, amount in amounts.items():
            limit = self.limit(meter)
            if amount and limit is not None and self.used[meter] + self.reserved(meter) + amount > limit:
                return "quota_exceeded"
        return "taken"

    def ask(
        self, mode: str, action: str, amounts: dict[str, int], key: str | None, resource: str | None
    ) -> Outcome:
        """What is to be answered; what is taken is told by *took* once it has its id."""
        if self.role is None:
            return "not_a_member"
        if key is not None and self.stands(key):
            same = self.keys[key].asked == (mode, action, amounts, resource)
            return "replayed" if same else "key_reused"
        levels = [meter for meter in amounts if self._is_level(meter)]
        if self.role == "member" and levels and all((meter, resource) in self.made for meter in levels):
            return "replayed"
        return self.may(amounts)

    def took(
        self,
        mode: str,
        action: str,
        amounts: dict[str, int],
        key: str | None,
        resource: str | None,
        *,
        by: str,
        reservation: str | None,
    ) -> None:
        wanted = self._missing(amounts, resource)
        if reservation is None:
            self._use(wanted, resource, by)
        else:
            self.holds[reservation] = Hold(reservation, by, wanted, key, resource)
        if key is not None:
            taken, hold = (wanted, None) if reservation is None else (None, self.holds[reservation])
            self.keys[key] = Key((mode, action, amounts, resource), taken, resource, by, hold)

    def may_commit(self, hold: Hold, wanted: dict[str, int]) -> str:
        if not any(wanted.values()):
            return "nothing"
        if hold.state == "committed":
            return "replayed" if hold.committed == wanted else "settled"
        if hold.given_up:
            return "settled"
        if any(wanted[meter] > amount for meter, amount in hold.amounts.items()):
            return "exceeds"
        late = hold.state == "expired"
        may = not late or (not self.is_taken_anew(hold) and self.may(wanted) == "taken")
        return "taken" if may else "expired"

    def committed(self, hold: Hold, wanted: dict[str, int]) -> None:
        hold.state, hold.committed = "committed", wanted
        charged = self._missing(wanted, hold.resource)
        self._use(charged, hold.resource, hold.by)
        if hold.key is not None and self.keys[hold.key].hold is hold:
            self.keys[hold.key].taken = {meter: charged[meter] for meter in wanted if wanted[meter]}

    def stands(self, key: str) -> bool:
        """Whether what was taken under *key* has not been given back."""
        known = self.keys.get(key)
        if known is None:
            return False
        if known.taken is None:
            return known.hold is not None and known.hold.state == "held"
        levels = {meter for meter in known.taken if self._is_level(meter)}
        if known.resource is not None:
            for meter in levels:
                _, by = self.made.get((meter, known.resource), (0, None))
                if by is None or (known.taken[meter] > 0 and by != known.by):
                    return False
        left = {meter: n - (known.given_back or {}).get(meter, 0) for meter, n in known.taken.items() if n}
        of_levels = [left[meter] for meter in levels if meter in left]
        return not left or (any(left.values()) and (not of_levels or any(of_levels)))

    def has_changed(self, key: str) -> bool:
        """Whether a repeat under *key* is told the figures of now."""
        known = self.keys[key]
        return known.given_back is not None or (known.hold is not None and known.hold.state == "committed")

    def is_taken_anew(self, hold: Hold) -> bool:
        return hold.key is not None and self.keys[hold.key].hold is not hold

    def refunded(self, key: str, amounts: dict[str, int] | None) -> bool | None:
        """Whether it was for the first time; None: it is refused."""
        known = self.keys[key]
        wanted = known.taken if amounts is None and known.given_back is None else amounts or known.given_back
        if known.taken is None or wanted is None or known.given_back not in (None, wanted):
            return None
        if any(amount > known.taken.get(meter, 0) for meter, amount in wanted.items()):
            return None
        moved = False
        for meter, amount in wanted.items() if known.given_back is None else ():
            if amount and self._let_go(meter, amount, known):
                self.used[meter] -= amount
                moved = True
        known.given_back = wanted
        return moved

    def given_back(self, meter: str, resource: str) -> int:
        amount, _ = self.made.pop((meter, resource), (0, ""))
        self.used[meter] -= amount
        return amount

    def _let_go(self, meter: str, amount: int, known: Key) -> bool:
        if known.resource is None or not self._is_level(meter):
            return True
        there, by = self.made.get((meter, known.resource), (0, ""))
        if by != known.by:
            return False
        self.made[meter, known.resource] = there - amount, by
        if there <= amount:
            del self.made[meter, known.resource]
        return True

    def _use(self, wanted: dict[str, int], resource: str | None, by: str) -> None:
        for meter, amount in wanted.items():
            self.used[meter] += amount
            if amount and resource and self._is_level(meter):
                self.made[meter, resource] = amount, by

    def _missing(self, amounts: dict[str, int], resource: str | None) -> dict[str, int]:
        """What exists of a level is not made again."""
        return {meter: 0 if (meter, resource) in self.made else amount for meter, amount in amounts.items()}

    def _is_level(self, meter: str) -> bool:
        return self._catalog.meters[meter].kind == "level"
