"""A comparison of two policies as text, and as Markdown for a pull request."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any

from sidecar.audit.diff import KINDS
from sidecar.audit.forms import markdown_table, shown
from sidecar.audit.matrix import needs_of, roles_in_words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sidecar.audit.diff import Change, Compared
    from sidecar.audit.diff_catalog import CatalogChanges
    from sidecar.audit.diff_live import Live
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Verdict

_WIDTHS = (8, 25, 33, 22)
Line = tuple[str, str, str, str, str]  # kind, what, who, transition, place


def lines_of(compared: Compared, changes: Sequence[Change], catalogs: CatalogChanges) -> list[Line]:
    """A line for those of one action that change in one way; then what catalogs say differently."""
    lines = [line for kind in KINDS for line in _of_kind(kind, compared, changes)]
    file = compared.new.plans

    def place(row: dict[str, Any]) -> str:
        return f"{file}:{row['line']}" if row.get("line") else ""

    lines += [
        ("limit", f"{row['plan']} {row['meter']}", _numbers(row), "", place(row)) for row in catalogs.limits
    ]
    lines += [("price", row["plan"], _prices(row), "", place(row)) for row in catalogs.prices]
    lines += [
        ("route", f"{row['method']} {row['host'] or ''}{row['path']}", _route(row), "", place(row))
        for row in catalogs.routes
    ]
    lines += [
        ("title", f"{row['kind']} {row['name']}", f"{row['from']} → {row['to']}", "", "")
        for row in catalogs.titles
    ]
    lines += [
        ("other", f"{row['name']} {row['what']}".strip(), f"{row['from']} → {row['to']}", "", place(row))
        for row in catalogs.others
    ]
    lines += [
        ("gone" if row["side"] == "from" else "new", f"{kind[:-1]} {row['name']}", "", "", "")
        for kind, rows in catalogs.only_one_side.items()
        for row in rows
    ]
    return lines


def not_compared_lines(catalogs: CatalogChanges) -> list[str]:
    return [f"{shown(row['file'])} {row['why']}: not compared" for row in catalogs.not_compared]


def live_lines(live: Live) -> list[Line]:
    """How many it concerns today, and the first of them by name."""
    lines: list[Line] = []
    for change in live.changes:
        count = f"{_count(change.workspaces, 'workspace')}, {_count(change.people, 'person', 'people')}"
        who = "; ".join(f"{workspace}: {', '.join(users)}" for workspace, users in change.who)
        lines.append((change.kind, change.action, count, _more(who, change.people, change.named), ""))
    for over in live.over:
        who = "; ".join(f"{slug}: {used} used, {above} over" for slug, used, above in over.who)
        what = f"{over.plan} {over.meter} {over.limit}"
        lines.append(
            (
                "over",
                what,
                _count(over.workspaces, "workspace"),
                _more(who, over.workspaces, len(over.who)),
                "",
            )
        )
    for slug, plan in live.gone[: live.limit]:
        lines.append(("gone", f"plan {plan}", slug, "", ""))
    if len(live.gone) > live.limit:
        lines.append(("gone", f"{len(live.gone) - live.limit} more workspaces", "", "", ""))
    return lines


def aligned(lines: Iterable[Line]) -> list[str]:
    rows = [tuple(shown(cell) for cell in line) for line in lines]
    widths = [
        max([least, *(len(row[at]) + 2 for row in rows if any(row[at + 1 :]))])
        for at, least in enumerate(_WIDTHS)
    ]
    return [
        "".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)).rstrip()
        for row in rows
    ]


def markdown_lines(
    title: str, lines: Sequence[Line], live: Sequence[Line] | None, notes: Sequence[str]
) -> list[str]:
    text = [f"### {shown(title)}", ""]
    if lines:
        text += [*markdown_table(("", "what", "who", "how", "where"), lines), ""]
    if live is not None:
        text += [*markdown_table(("", "what", "now", "who"), [line[:4] for line in live]), ""] if live else []
    return text + [f"- {note}" for note in notes]


def _of_kind(kind: str, compared: Compared, changes: Sequence[Change]) -> Iterator[Line]:
    catalog = compared.new.compiled.catalog
    groups: dict[tuple[str, str, str], dict[str, dict[str, list[tuple[str, str]]]]] = {}
    for change in changes:
        if change.kind == kind:
            key = change.cell.action, _transition(change, catalog), change.place or ""
            conditions = groups.setdefault(key, {}).setdefault(change.cell.plan, {})
            conditions.setdefault(change.cell.role, []).append((change.cell.status, change.cell.override))
    for (action, transition, place), plans in sorted(groups.items()):
        # Plans in which the same roles change under the same conditions share a line.
        alike: dict[str, list[str]] = {}
        for plan, roles in plans.items():
            by_condition: dict[str, list[str]] = {}
            for role, cells in roles.items():
                by_condition.setdefault(_condition(cells), []).append(role)
            for condition, names in by_condition.items():
                alike.setdefault(f"{_roles(names, compared, kind)}\n{condition}", []).append(plan)
        for who, names in alike.items():
            roles_, _, condition = who.partition("\n")
            every = len(names) == len(compared.names.plans.pairs)
            where = f"{roles_} on every plan" if every else f"{', '.join(names)}: {roles_}"
            yield kind, action, f"{where}{condition}", transition, place


def _roles(names: list[str], compared: Compared, kind: str) -> str:
    """Whose rights change is always said by name."""
    every = len(names) == len(compared.names.roles.pairs)
    return "every role" if every and kind not in {"gained", "lost"} else ", ".join(names)


def _condition(conditions: list[tuple[str, str]]) -> str:
    words = []
    for status, override in conditions:
        parts = [status] if status != "active" else []
        parts += [f"override {override}"] if override != "none" else []
        words.append(", ".join(parts))
    if words == [""]:
        return ""
    if "" in words:
        return f" (also {'; '.join(word for word in words if word)})"
    return f" ({'; '.join(words)})"


def _transition(change: Change, catalog: Catalog) -> str:
    old, new = change.old, change.new
    match change.kind:
        case "lost":
            return f"200 → {_denial(new, catalog)}"
        case "gained":
            return f"{old.status} → 200"
        case "reason":
            told = _told(new, catalog)
            return (
                f"{_short(old)}, now {told}"
                if old.status == new.status
                else f"{_short(old)}, now {_denial(new, catalog)}"
            )
        case _ if old.upgrade and new.upgrade and old.upgrade[0] == new.upgrade[0]:
            return f"{_short(old)}, {_price(change.old_price)} → {_price(change.new_price)}"
        case _ if old.upgrade:
            return f"{_short(old)}, now {new.upgrade[0] if new.upgrade else 'no plan'}"
        case _:
            return f"{_short(old)}, now {_short(new)}"


def _short(verdict: Verdict) -> str:
    return f"402 → {verdict.upgrade[0]}" if verdict.upgrade else str(verdict.status)


def _denial(verdict: Verdict, catalog: Catalog) -> str:
    if verdict.upgrade:
        return _short(verdict)
    if verdict.needs_roles:
        return f"{verdict.status} {roles_in_words(verdict.needs_roles, catalog)}"
    return f"{verdict.status} {verdict.detail or verdict.reason}"


def _told(verdict: Verdict, catalog: Catalog) -> str:
    needs = needs_of(verdict)
    if "roles" in needs:
        return f"needs {roles_in_words(verdict.needs_roles, catalog)}"
    return f"needs {needs['feature']}" if needs else verdict.detail or verdict.reason


def _route(row: dict[str, Any]) -> str:
    if row["from"] is None or row["to"] is None:
        return f"{row['from'] or 'no route'} → {row['to'] or 'no route'}"
    actions = f"{row['from']} → {row['to']}" if row["from"] != row["to"] else row["to"]
    how = [f"{name} {before} → {after}" for name, (before, after) in row["how"].items()]
    return ", ".join([actions, *how])


def _numbers(row: dict[str, Any]) -> str:
    before, after = ("unlimited" if row[side] is None else str(row[side]) for side in ("from", "to"))
    return f"{before} → {after}"


def _prices(row: dict[str, Any]) -> str:
    before, after = (f"{row[side]} {row['currency'][side] or ''}".strip() for side in ("from", "to"))
    return f"{before} → {after}"


def _price(price: float) -> str:
    return "none" if price == inf else f"{price:.0f}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _more(who: str, all_: int, named: int) -> str:
    return f"{who}; and {all_ - named:,} more" if all_ > named else who
