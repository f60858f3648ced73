"""Catalogs that are written anew, and how the people of a small world stand under each."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from sidecar.catalog.check import check_plans
from sidecar.store.names import Names
from sidecar.store.postgres import PostgresFacts
from sidecar.store.publish import publish
from tests.values import FAR_AWAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts
    from sidecar.store.publish import Publication

COUNTER = "kind: counter, per: month"
LEVEL = "kind: level"
SEATS = "counts: members"


@dataclass
class Written:
    """Of each name what it is renamed from, or None; of a meter also how it is counted."""

    roles: dict[str, str | None] = field(default_factory=lambda: {"viewer": None, "editor": None})
    features: dict[str, str | None] = field(default_factory=lambda: {"video": None, "sso": None})
    meters: dict[str, tuple[str, str | None]] = field(
        default_factory=lambda: {"minutes": (COUNTER, None), "items": (LEVEL, None), "seats": (SEATS, None)}
    )
    plans: dict[str, str | None] = field(default_factory=lambda: {"free": None, "pro": None})
    actions: dict[str, str | None] = field(default_factory=lambda: {"work.do": None, "work.make": None})

    def catalog(self) -> Catalog:
        limits = ", ".join(f"{meter}: 100" for meter in self.meters)
        first_role, first_plan = next(iter(self.roles)), next(iter(self.plans))
        takes = dict(
            zip(self.actions, [m for m, (how, _) in self.meters.items() if how != SEATS], strict=False)
        )
        text = [
            f"version: 1\ncurrency: EUR\ndefault_plan: {first_plan}",
            *_section("roles", dict.fromkeys(self.roles, ""), self.roles),
            *_section("features", dict.fromkeys(self.features, ""), self.features),
            *_section(
                "meters",
                {name: how for name, (how, _) in self.meters.items()},
                {name: former for name, (_, former) in self.meters.items()},
            ),
            *_section("plans", dict.fromkeys(self.plans, f"price: 0, limits: {{{limits}}}"), self.plans),
            *_section(
                "actions",
                {
                    name: f"role: {first_role}" + (f", takes: {{{takes[name]}: 1}}" if name in takes else "")
                    for name in self.actions
                },
                self.actions,
            ),
        ]
        checked = check_plans("\n".join(text).encode(), source="plans.yaml")
        assert checked.catalog is not None, checked.problems
        return checked.catalog


def _section(name: str, says: dict[str, str], former: dict[str, str | None]) -> Iterator[str]:
    yield f"{name}:"
    for each, fields in says.items():
        renamed = f"renamed_from: {former[each]}" if former[each] else ""
        yield f"  {each}: {{{', '.join(filter(None, [fields, renamed]))}}}"


def published(url: str, catalog: Catalog, revision: str, *, accept_loss: bool = False) -> Publication:
    with psycopg.connect(url, autocommit=True) as connection:
        return publish(connection, catalog, revision, accept_loss=accept_loss)


@contextmanager
def a_reader(url: str, catalog: Catalog, revision: str) -> Iterator[PostgresFacts]:
    """The facts as a sidecar of *revision* reads them."""
    store = PostgresFacts(url, catalog=catalog, pool_size=1, names=Names(revision))
    store.open()
    try:
        yield store
    finally:
        store.close()


def rights(facts: Facts | None) -> dict[str, Any]:
    """All that a decision is made from, without the time."""
    assert facts is not None
    return {
        "role": facts.role,
        "plan": facts.plan,
        "status": facts.status,
        "features": dict(facts.feature_overrides),
        "limits": dict(facts.limit_overrides),
        "usage": {meter: (use.used, use.reserved, use.resets_at) for meter, use in facts.usage.items()},
    }


def rights_of(store: PostgresFacts, people: list[tuple[str, str]]) -> list[dict[str, Any]]:
    return [rights(each) for each in store.facts(people, deadline=FAR_AWAY)]
