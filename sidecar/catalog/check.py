"""Every problem of a catalog in one run, or the catalog."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.catalog.billing import check_sold_as
from sidecar.catalog.build import built
from sidecar.catalog.check_renames import check_renames
from sidecar.catalog.check_routes import check_routes, warnings_about_routes
from sidecar.catalog.finding import Finding, nearest
from sidecar.catalog.invariants import check_invariants
from sidecar.catalog.node import fields_at, node_at, text_at
from sidecar.catalog.read import Broken, Fields, Items, Text, document_in, plain
from sidecar.catalog.sections import PLANS_FILE
from sidecar.catalog.shape import Place, Walk
from sidecar.catalog.warn import warnings_about

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Catalog
    from sidecar.catalog.read import Node

_SECTION_OF = {
    "role": "roles",
    "feature": "features",
    "meter": "meters",
    "plan": "plans",
    "action": "actions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """*catalog* is None exactly when there are *problems*; *warnings* are of a catalog without any."""

    catalog: Catalog | None
    problems: tuple[Finding, ...]
    warnings: tuple[Finding, ...] = ()


def check_plans(raw: bytes, *, source: str) -> Checked:
    document = document_in(raw, source=source)
    walk = Walk(source=source, findings=list(document.findings))
    root = document.root
    if root is not None:
        walk.declared.update(_declared_in(root))
        root = walk.sound(root, PLANS_FILE, Place(owner="the catalog", line=root.line, column=root.column))
        _check_roles(fields_at(root, "roles"), walk)
        _check_meters(fields_at(root, "meters"), walk)
        _check_plans(root, walk)
        check_sold_as(fields_at(root, "plans"), walk)
        check_routes(root, walk)
        check_renames(_sections(root), walk)
        check_invariants(_invariants_in(root), walk)
    if walk.findings or root is None:
        return Checked(catalog=None, problems=tuple(sorted(set(walk.findings), key=lambda each: each.order)))
    catalog = built(plain(root), lines=[each.line for each in _invariants_in(root)])
    warnings = warnings_about(
        catalog, {name: each.keys for name, each in _sections(root).items()}, source=source
    )
    warnings += warnings_about_routes(root, source=source)
    return Checked(
        catalog=catalog, problems=(), warnings=tuple(sorted(warnings, key=lambda each: each.order))
    )


def _declared_in(root: Node) -> dict[str, set[str]]:
    """The names of each kind. A section that is broken or misspelt leaves its kind out.

    A name that was itself refused is included, so that references to it are not reported again.
    """
    if not isinstance(root, Fields):
        return {}
    misspelt = {nearest(name, PLANS_FILE.fields) for name in root.values if name not in PLANS_FILE.fields}
    declared: dict[str, set[str]] = {}
    for kind, name in _SECTION_OF.items():
        section = root.values.get(name)
        required = PLANS_FILE.fields[name].required
        if isinstance(section, Fields) and (section.values or not required):
            declared[kind] = set(section.values) | {key.lower() for key in section.values}
        elif section is None and name not in misspelt and not required:
            declared[kind] = set()
    if "action" in declared:
        made_of = [kind for kind in ("feature", "role") if kind in declared]
        if len(made_of) < 2:  # noqa: PLR2004 - both, or actions made of the other may be meant
            del declared["action"]
        else:
            declared["action"] |= {f"{kind}:{name}" for kind in made_of for name in declared[kind]}
    return declared


def _sections(root: Node) -> dict[str, Fields]:
    return {
        name: section for name in _SECTION_OF.values() if isinstance(section := node_at(root, name), Fields)
    }


def _invariants_in(root: Node) -> tuple[Node, ...]:
    found = node_at(root, "invariants")
    return found.items if isinstance(found, Items) else ()


def _check_roles(roles: Mapping[str, Node], walk: Walk) -> None:
    included: dict[str, list[Text]] = {}
    for name, role in roles.items():
        names = node_at(role, "includes")
        included[name] = (
            [each for each in names.items if isinstance(each, Text)] if isinstance(names, Items) else []
        )
    _check_cycles(included, "role", "includes", walk)


def _check_cycles(follows: Mapping[str, list[Text]], kind: str, verb: str, walk: Walk) -> set[str]:
    """The names on a cycle; each cycle is reported once, where it closes in the file's order."""
    done: set[str] = set()
    on_a_cycle: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        for other in follows.get(name, []):
            if other.value in path:
                cycle = path[path.index(other.value) :]
                on_a_cycle.update(cycle)
                way = " → ".join([*cycle, other.value])
                walk.find(f"{kind}_cycle", f'{kind} "{other.value}" {verb} itself: {way}', other)
            elif other.value not in done:
                visit(other.value, [*path, other.value])
        done.add(name)

    for name in follows:
        if name not in done:
            visit(name, [name])
    return on_a_cycle


def _check_meters(meters: Mapping[str, Node], walk: Walk) -> None:
    counting: dict[str, str] = {}
    for name, meter in meters.items():
        if not isinstance(meter, Fields):
            continue
        counts, counted = meter.values.get("counts"), text_at(meter, "counts")
        if counts is not None and counted is not None:
            first = counting.setdefault(counted, name)
            if first != name:
                message = f'meter "{name}" counts {counted}, as "{first}" does: there is one such meter'
                if counted == "owned":
                    walk.find("second_owned_meter", message, counts)
                else:
                    walk.find("second_members_meter", message, counts)
        _check_kind(name, meter, walk)


def _check_kind(name: str, meter: Fields, walk: Walk) -> None:
    fields = meter.values
    kind, per, anchor = (text_at(meter, part) for part in ("kind", "per", "anchor"))
    is_counted = "counts" in fields
    if kind == "counter" and is_counted:
        counted = text_at(meter, "counts") or "members"
        message = f'meter "{name}" counts {counted}: what can leave again is a level, not a counter'
        walk.find("field_not_for_kind", message, fields["kind"])
    elif kind == "level" or is_counted:
        for part in ("per", "anchor"):
            if not isinstance(fields.get(part), Broken | None):
                message = f'meter "{name}" is a level, which has no {part}: only a counter has'
                walk.find("field_not_for_kind", message, fields[part])
    elif "kind" not in fields:
        walk.find("missing_field", f'meter "{name}" has no kind: expected counter or level', meter)
    elif kind == "counter" and "per" not in fields:
        walk.find("missing_field", f'meter "{name}" has no per: expected month or day or ever', meter)
    elif kind == "counter" and anchor == "subscription" and per in {"day", "ever"}:
        message = f'meter "{name}" is per {per}: only what is per month can begin with the subscription'
        walk.find("field_not_for_kind", message, fields["anchor"])


def _check_plans(root: Node, walk: Walk) -> None:
    plans = fields_at(root, "plans")
    parents = {
        name: [parent] if isinstance(parent := node_at(plan, "extends"), Text) else []
        for name, plan in plans.items()
    }
    on_a_cycle = _check_cycles(parents, "plan", "extends", walk)
    sections = _sections(root)
    meters = list(sections["meters"].keys) if "meters" in sections else []
    lacking: dict[str, set[str] | None] = {}  # by plan; None where it cannot be known

    def lacks(name: str) -> set[str] | None:
        if name not in lacking:
            lacking[name] = None if name in on_a_cycle else without(name)
        return lacking[name]

    def without(name: str) -> set[str] | None:
        plan = plans.get(name)
        stated, parent = node_at(plan, "limits"), node_at(plan, "extends")
        if not isinstance(plan, Fields) or isinstance(stated, Broken) or isinstance(parent, Broken):
            return None
        inherited = lacks(parent.value) if isinstance(parent, Text) else set(meters)
        return (
            None
            if inherited is None
            else inherited - set(stated.values if isinstance(stated, Fields) else {})
        )

    for name, plan in plans.items():
        parent_name = text_at(plan, "extends")
        echoed = (lacks(parent_name) or set()) if parent_name else set()
        for meter in meters:
            if meter in (lacks(name) or set()) - echoed:
                message = f'plan "{name}" has no limit for "{meter}": write a number, or unlimited'
                walk.find("missing_limit", message, node_at(plan, "limits") or sections["plans"].keys[name])
