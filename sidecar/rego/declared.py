"""Which names a part of `input` or of the policy data may have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sidecar.rego.compile import policy_data
from sidecar.rego.meaning import ANY, KEY, Step

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sidecar.catalog.catalog import Catalog
    from sidecar.rego.meaning import Path

STATUSES = ("active", "suspended")
_PLANS = ("data", "authz", "plans")
# What a plan, an action … is called, by where its name stands; None is any one step.
_PLACES: tuple[tuple[str, tuple[str | Step | None, ...]], ...] = (
    ("action", ("input", "action")),
    ("role", ("input", "role")),
    ("plan", ("input", "plan")),
    ("status", ("input", "status")),
    ("plan", ("input", "room", "fits_in", ANY)),
    ("feature", ("input", "overrides", "features", KEY)),
    ("context", ("input", "context", KEY)),
    ("action", (*_PLANS, "actions", KEY)),
    ("feature", (*_PLANS, "actions", None, "feature")),
    ("role", (*_PLANS, "actions", None, "roles", ANY)),
    ("meter", (*_PLANS, "actions", None, "takes", KEY)),
    ("plan", (*_PLANS, "by_price", ANY)),
    ("feature", (*_PLANS, "features", ANY)),
    ("meter", (*_PLANS, "meters", ANY)),
    ("plan", (*_PLANS, "plans", KEY)),
    ("feature", (*_PLANS, "plans", None, "features", ANY)),
    ("meter", (*_PLANS, "plans", None, "limits", KEY)),
    ("role", (*_PLANS, "roles", ANY)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """*names* are those of each kind; *data* is `data.authz.plans` as an engine has it."""

    names: dict[str, Collection[str]]
    data: dict[str, Any]

    def kind_at(self, path: Path) -> str | None:
        """Of which kind the names at *path* are; None if they are of none."""
        for kind, place in _PLACES:
            if len(place) == len(path) and all(
                step is None or step == found for step, found in zip(place, path, strict=True)
            ):
                return kind
        return None

    def below(self, path: Path) -> set[str] | None:
        """The names of policy data that may follow *path*; None if there is no object."""
        if path[: len(_PLANS)] != _PLANS:
            return None
        objects = [each for each in _found(self.data, path[len(_PLANS) :]) if isinstance(each, dict)]
        return set().union(*objects) if objects else None


def declared_by(catalog: Catalog, *, context: Collection[str]) -> Declared:
    """*context* are the fields that policies declare."""
    return Declared(
        names={
            "action": catalog.actions,
            "context": context,
            "feature": catalog.features,
            "meter": catalog.meters,
            "plan": catalog.plans,
            "role": catalog.roles,
            "status": STATUSES,
        },
        data=policy_data(catalog, revision=""),
    )


def _found(data: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 - JSON
    if not path:
        yield data
    elif isinstance(path[0], str):
        if isinstance(data, dict) and path[0] in data:
            yield from _found(data[path[0]], path[1:])
    elif path[0] is ANY and isinstance(data, dict | list):
        for each in data.values() if isinstance(data, dict) else data:
            yield from _found(each, path[1:])
