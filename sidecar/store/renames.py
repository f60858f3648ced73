"""What a catalog changes of the names and shapes that rows refer to, compared with the published one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.store.names import DEAD

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    import psycopg

    from sidecar.catalog.catalog import Catalog
    from sidecar.store.names import Kind

    Renamed = dict[str, str]
    Shape = tuple[str, str | None, str]  # kind, per, anchor

KINDS: tuple[Kind, ...] = ("plan", "role", "feature", "meter", "action")

NAMES = """
    SELECT 'role', name FROM authz.roles UNION ALL
    SELECT 'feature', name FROM authz.features UNION ALL
    SELECT 'plan', name FROM authz.plans UNION ALL
    SELECT DISTINCT 'meter', meter FROM authz.plan_limits UNION ALL
    SELECT DISTINCT 'action', action FROM authz.action_roles
"""
METERS = "SELECT name, kind, per, anchor FROM authz.meters"
REMEMBERS = "SELECT to_regclass('authz.revisions') IS NOT NULL"
REVISIONS = "SELECT revision, names FROM authz.revisions ORDER BY number"
LAST_NUMBER = "SELECT COALESCE(max(number), 0) FROM authz.revisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What the database has: *names* by kind, *shapes* of all its meters, dropped ones too.

    *former* maps each revision that is remembered, the last one last, to how its names are stored; a database
    of a version before *remembers* none.
    """

    names: Mapping[str, AbstractSet[str]]
    shapes: Mapping[str, Shape]
    former: Mapping[str, Mapping[str, Renamed]]
    last_number: int
    remembers: bool

    @property
    def is_empty(self) -> bool:
        return not self.names["plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """By kind: what is *renamed*, and what is *gone*. *reshaped* are published meters, counted otherwise now.

    *buried* are names that are stored as dead ones before anything is renamed, so that nobody finds their
    rows: those of reshaped meters, and what is left of names that were gone and come back.
    """

    renamed: Mapping[Kind, Renamed]
    gone: Mapping[Kind, AbstractSet[str]]
    reshaped: AbstractSet[str]
    buried: Mapping[Kind, Renamed]

    @property
    def touches_rows(self) -> bool:
        return any(any(by_kind.values()) for by_kind in (self.renamed, self.gone, self.buried))


def published_in(connection: psycopg.Connection) -> Published:
    names: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for kind, name in connection.execute(NAMES):
        names[kind].add(name)
    (remembers,) = connection.execute(REMEMBERS).fetchone() or (False,)
    (number,) = (connection.execute(LAST_NUMBER).fetchone() if remembers else None) or (0,)
    return Published(
        names=names,
        shapes={name: (kind, per, anchor) for name, kind, per, anchor in connection.execute(METERS)},
        former=dict(connection.execute(REVISIONS).fetchall() if remembers else ()),
        last_number=number,
        remembers=remembers,
    )


def change_to(catalog: Catalog, revision: str, *, before: Published) -> Change:
    """From what is published *before* to *catalog*, which is of *revision*."""
    renamed: dict[Kind, Renamed] = {}
    gone: dict[Kind, AbstractSet[str]] = {}
    buried: dict[Kind, Renamed] = {}
    number = before.last_number + 1
    for kind, wanted in _declared(catalog).items():
        there = before.names[kind]
        # A revision that was published a short while ago takes its names back.
        claims = {**wanted, **before.former.get(revision, {}).get(kind, {})}
        renamed[kind] = {
            former: name
            for name, former in claims.items()
            if former in there - wanted.keys() and name in wanted.keys() - there
        }
        gone[kind] = there - wanted.keys() - renamed[kind].keys()
        new = set() if before.is_empty or kind in {"plan", "action"} else wanted.keys() - there
        buried[kind] = {name: f"{name}{DEAD}{number}" for name in sorted(new)}
    reshaped = {
        meter
        for meter in before.names["meter"] - gone["meter"]
        if before.shapes[meter] != _shape(catalog, renamed["meter"].get(meter, meter))
    }
    buried["meter"] = {name: dead for name, dead in buried["meter"].items() if name in before.shapes}
    buried["meter"] |= {name: f"{name}{DEAD}{number}" for name in sorted(reshaped)}
    renamed["meter"] = {name: to for name, to in renamed["meter"].items() if name not in reshaped}
    return Change(renamed=renamed, gone=gone, reshaped=reshaped, buried=buried)


def stored_after(
    former: Mapping[str, Renamed], change: Change, *, declared: Mapping[str, AbstractSet[str]] | None
) -> dict[str, Renamed]:
    """How names of a former revision are stored after *change*; *former* is how they were before it.

    *declared* are the names of the revision, by kind; None: it is not known which it has.
    """
    found: dict[str, Renamed] = {}
    for kind in KINDS:
        moved = {**change.renamed.get(kind, {}), **change.buried.get(kind, {})}
        before = former.get(kind, {})
        after = {name: moved.get(stored, stored) for name, stored in before.items()}
        for name, stored in moved.items():
            # What is stored under this name may be another's by now.
            is_its_own = name not in before and name not in before.values()
            if is_its_own and (declared is None or name in declared[kind]):
                after[name] = stored
        if after := {name: stored for name, stored in after.items() if name != stored}:
            found[kind] = after
    return found


def _declared(catalog: Catalog) -> dict[Kind, dict[str, str | None]]:
    """The names of each kind, each with what it is renamed from."""
    actions = {name: catalog.actions[name].renamed_from for name in catalog.declared_actions}
    return {
        "role": {each.name: each.renamed_from for each in catalog.roles.values()},
        "feature": {each.name: each.renamed_from for each in catalog.features.values()},
        "meter": {each.name: each.renamed_from for each in catalog.meters.values()},
        "plan": {each.name: each.renamed_from for each in catalog.plans.values()},
        "action": actions,
    }


def _shape(catalog: Catalog, meter: str) -> Shape:
    of = catalog.meters[meter]
    return (of.kind, of.per, of.anchor)
