"""Two publications compared: what is answered otherwise, and whom that concerns today."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.audit.answers import Answers
from sidecar.audit.diff import Compared, Side
from sidecar.audit.diff_catalog import CatalogChanges
from sidecar.audit.diff_forms import lines_of, live_lines, not_compared_lines
from sidecar.audit.diff_live import live_of
from sidecar.rego.compile import catalog_digest
from sidecar.rego.kept import kept
from sidecar.store.audience import Audience

if TYPE_CHECKING:
    from collections.abc import Callable

    from sidecar.audit.answers import ManyAnswered
    from sidecar.audit.diff_forms import Line
    from sidecar.audit.diff_live import Live
    from sidecar.rego.compile import Compiled
    from sidecar.store.auditing import Looked
    from sidecar.store.published import Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """*questions* were asked, *changed* are answered otherwise; lines are as `audit diff` writes them."""

    questions: int
    changed: int
    lines: list[Line]
    notes: list[str]
    concerned: list[Line]
    workspaces: int
    people: int


def comparison(
    looked: Looked, old: Kept, new: Kept, *, engine_of: Callable[[Compiled], ManyAnswered], limit: int
) -> Comparison:
    """Up to *limit* people or workspaces are named in a line."""
    before, after = _side(old), _side(new)
    compared = Compared(
        before, after, (Answers(engine_of(before.compiled)), Answers(engine_of(after.compiled)))
    )
    changes = compared.changes()
    catalogs = CatalogChanges(before, after, compared.names)
    live = live_between(compared, catalogs, looked, limit=limit)
    return Comparison(
        questions=compared.questions,
        changed=len(changes),
        lines=lines_of(compared, changes, catalogs),
        notes=not_compared_lines(catalogs),
        concerned=live_lines(live),
        workspaces=live.workspaces,
        people=live.people,
    )


def live_between(compared: Compared, catalogs: CatalogChanges, looked: Looked, *, limit: int) -> Live:
    lowered = [
        (row["plan"], row["meter"], row["to"])
        for row in catalogs.limits
        if row["to"] is not None and (row["from"] is None or row["to"] < row["from"])
    ]
    return live_of(compared, Audience(looked), lowered=lowered, limit=limit)


def _side(found: Kept) -> Side:
    revision = found.publication.revision
    both = kept(found.bundle, plans=found.plans, revision=revision, source=f"revision {revision}")
    return Side(
        compiled=both,
        text=found.plans,
        catalog=catalog_digest(found.plans),
        plans="plans.yaml",
        policies="policies",
    )
