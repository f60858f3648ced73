"""A decision case for each cell of the matrix that has none, for a company to read and to commit."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from sidecar.audit.matrix import needs_of
from sidecar.audit.questions import lacks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sidecar.audit.matrix import Row
    from sidecar.catalog.catalog import Catalog

_HEAD = """\
# What each role may do on each plan, as sold, where no other case says it. Made by `sidecar audit matrix
# --as-cases`: read it before you commit it. From then on each change of a right shows in review."""


_BARE = re.compile(r"[a-z_][a-z0-9_.-]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # not a text to all readers of YAML


def cases_text(rows: Sequence[Row], catalog: Catalog) -> str:
    """YAML that `sidecar test` reads; what all rows say is true of the policies that they were asked of."""
    return "\n".join([_HEAD, *(line for row in rows if not row.cases for line in _case(row, catalog))])


def _case(row: Row, catalog: Catalog) -> Iterator[str]:
    cell, verdict = row.cell, row.verdict
    own = {
        meter: amount for meter, amount in row.takes.items() if lacks(catalog.plans[cell.plan], meter, amount)
    }
    facts: dict[str, object] = {"role": cell.role, "plan": cell.plan}
    if own:
        facts["overrides"] = {"limits": own}
    want: dict[str, object] = {"allow": verdict.allow, "status": verdict.status, "reason": verdict.reason}
    if verdict.upgrade:
        want["upgrade"] = list(verdict.upgrade)
    if needs := needs_of(verdict):
        want["needs"] = needs
    if verdict.detail is not None:
        want["detail"] = verdict.detail
    answer = "granted" if verdict.allow else f"{verdict.status} {verdict.reason}"
    yield ""
    yield f"- story: {flow(f'as sold, {cell.action} by {cell.role} on {cell.plan}: {answer}')}"
    yield f"  question: {flow({'action': cell.action})}"
    yield f"  facts: {flow(facts)}"
    yield f"  want: {flow(want)}"


def flow(value: object) -> str:
    """YAML on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{flow(name)}: {flow(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(flow(each) for each in value) + "]"
        case str() if _BARE.fullmatch(value) and value not in _WORDS:
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)
