"""The matrix as a table: text for a terminal, Markdown to commit, HTML to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.forms import html, html_page, markdown_table, text_table
from sidecar.audit.matrix import NOBODY, by_plan, in_words, limit_in_words, rows_by_action

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sidecar.audit.made import Made
    from sidecar.audit.matrix import Row
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Verdict

LEGEND = (
    f"role+ = this role and all above · 402 → plan = nobody; the cheapest that would · {NOBODY} = nobody",
)
_TERMS = (
    "*as sold*: the workspace is active, has no override, and room for what the action takes.",
    "*when full*: each meter that is taken is used up.",
    "*override on*, *off*: of the feature that the action needs.",
)
MADE_BY = "Made by "  # begins the one line of the Markdown that differs from run to run
_TITLE = "What may be done, as sold"


def text_lines(rows: Sequence[Row], catalog: Catalog, *, asserted: bool) -> list[str]:
    """*asserted*: with how many cells of each action are asserted by cases, and the sum."""
    table = [["action", *catalog.plans, "suspended", *(["asserted"] if asserted else [])]]
    for action, plans in rows_by_action(rows).items():
        line = [action, *(in_words(each, catalog, _as_sold) for each in plans.values())]
        line.append(by_plan({plan: in_words(each, catalog, _suspended) for plan, each in plans.items()}))
        cells = [row for each in plans.values() for row in each]
        if asserted:
            line.append(f"{sum(bool(row.cases) for row in cells)} of {len(cells)}")
        table.append(line)
    return [*text_table(table), *LEGEND]


def markdown_lines(rows: Sequence[Row], catalog: Catalog, made: Made) -> list[str]:
    """Every right is in it, and nothing but rights, except for the line that begins with MADE_BY."""
    columns = ["action", "takes", *catalog.plans, "suspended", "when full", "override on", "override off"]
    table = []
    for action, plans in rows_by_action(rows).items():
        first = next(iter(plans.values()))[0]
        takes = ", ".join(limit_in_words(meter, amount) for meter, amount in first.takes.items())
        line = [action, takes, *(in_words(each, catalog, _as_sold) for each in plans.values())]
        for of in (_suspended, _when_full, _on, _off):
            known = any(of(row) is not None for each in plans.values() for row in each)
            line.append(
                by_plan({plan: in_words(each, catalog, of) for plan, each in plans.items()}) if known else ""
            )
        table.append(line)
    return [
        f"# {_TITLE}",
        "",
        _made_in_one_line(made),
        "",
        *markdown_table(columns, table),
        "",
        *LEGEND,
        "",
        *_TERMS,
    ]


def _made_in_one_line(made: Made) -> str:
    return (
        f"{MADE_BY}{made.by} at {made.at}: {made.command}, revision {made.revision}, "
        f"catalog {made.catalog}, asked of {made.engine}."
    )


def html_text(rows: Sequence[Row], catalog: Catalog, made: Made, *, plans_file: str) -> str:
    """*plans_file* is where each row's line is."""
    plans, roles = list(catalog.plans), list(catalog.roles)
    head = "".join(f'<th colspan="{len(roles)}">{html(plan)}</th>' for plan in plans)
    subhead = "".join(f"<th>{html(role)}</th>" for _ in plans for role in roles)
    body = []
    for action, by_its_plan in rows_by_action(rows).items():
        cells = "".join(_html_cell(row, plans_file) for each in by_its_plan.values() for row in each)
        suspended = by_plan({plan: in_words(each, catalog, _suspended) for plan, each in by_its_plan.items()})
        body.append(f"<tr><th>{html(action)}</th>{cells}<td>{html(suspended)}</td></tr>")
    caption = f"{_made_in_one_line(made)} {len(rows)} cells."
    return html_page(
        _TITLE,
        f"<h1>{_TITLE}</h1>\n<table>\n<caption>{html(caption)}</caption>\n<thead>\n"
        f'<tr><th rowspan="2">action</th>{head}<th rowspan="2">suspended</th></tr>\n<tr>{subhead}</tr>\n'
        "</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>",
    )


def _html_cell(row: Row, plans_file: str) -> str:
    verdict = row.verdict
    limits = ", ".join(limit_in_words(meter, limit) for meter, limit in row.limits.items())
    if verdict.allow:
        colour, words = "yes", f"yes, {limits}" if limits else "yes"
    elif verdict.upgrade:
        colour, words = "pay", f"402 → {verdict.upgrade[0]}"
    else:
        colour, words = "no", f"no, {verdict.detail or verdict.reason}"
    needs = [f"needs {names}" for names in (", ".join(verdict.needs_roles), verdict.needs_feature) if names]
    line = [f"{plans_file}:{row.plans_line}"] if row.plans_line else []
    title = " · ".join([verdict.reason, *needs, *([row.rule] if row.rule else []), *line, *row.cases])
    return f'<td class="{colour}" title="{html(title)}">{html(words)}</td>'


def _as_sold(row: Row) -> Verdict | None:
    return row.verdict


def _suspended(row: Row) -> Verdict | None:
    return row.suspended


def _when_full(row: Row) -> Verdict | None:
    return row.when_full


def _on(row: Row) -> Verdict | None:
    return row.on


def _off(row: Row) -> Verdict | None:
    return row.off
