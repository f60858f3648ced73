"""Two policies compared, with whom that concerns today: for `sidecar audit diff` and `sidecar rollout`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.audit.answers import Answers
from sidecar.audit.diff import Compared
from sidecar.audit.diff_catalog import CatalogChanges
from sidecar.audit.diff_forms import aligned, lines_of, live_lines, markdown_lines, not_compared_lines
from sidecar.cli.audit.asking import engine_for

if TYPE_CHECKING:
    from sidecar.audit.diff import Change
    from sidecar.audit.diff_live import Live
    from sidecar.cli.audit.sides import Named
    from sidecar.store.auditing import Looked

_DIGITS = 8  # of a revision, in a heading


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """*live* is None without a database; *engine* is who was asked, about so many situations *asked*."""

    old: Named
    compared: Compared
    changes: list[Change]
    catalogs: CatalogChanges
    live: Live | None
    engine: str
    asked: int

    @property
    def kinds(self) -> set[str]:
        """Of loss, gain, limit and any, those that there are."""
        kinds = {change.kind for change in self.changes}
        found = {
            "loss": "lost" in kinds,
            "gain": "gained" in kinds,
            "limit": bool(self.catalogs.limits),
            "any": bool(self.changes or self.catalogs),
        }
        return {what for what, is_there in found.items() if is_there}

    def text(self, *, form: str, made: str) -> str:
        """*form* is "text" or "md"; *made* a line that tells of the report itself."""
        before, after = (side.compiled.revision[:_DIGITS] for side in (self.compared.old, self.compared.new))
        file = Path(self.compared.old.plans.rpartition(":")[2]).name
        of = f" ({file} of {self.old.of.date().isoformat()})" if self.old.of else ""
        count = f"{self.compared.questions} questions, {len(self.changes)} answered otherwise"
        title = f"from {before}…{of} to {after}…: {count}"
        lines = lines_of(self.compared, self.changes, self.catalogs)
        notes = not_compared_lines(self.catalogs)
        if not self.changes:
            notes = ["no question is answered otherwise", *notes]
        live = self.live
        now = f"now, of {live.workspaces:,} workspaces and {live.people:,} people" if live else ""
        if form == "md":
            notes += [now] if now else []
            notes.append(made)
            return "\n".join(markdown_lines(title, lines, live_lines(live) if live else None, notes))
        blocks = [[title], aligned(lines), notes]
        if live:
            blocks.append([now, *(aligned(live_lines(live)) or ["it concerns nobody"])])
        return "\n\n".join("\n".join(block) for block in blocks if block)


def difference(
    old: Named, new: Named, *, looked: Looked | None, engine: str | None, limit: int
) -> Difference:
    """*limit* is how many people or workspaces a line names."""
    before, after = old.side, new.side
    with ExitStack() as stack:
        first, engine_name = stack.enter_context(engine_for(before.compiled, engine))
        answers = Answers(first)
        if before.compiled.revision == after.compiled.revision:
            both = answers, answers
        else:
            second, _ = stack.enter_context(engine_for(after.compiled, engine))
            both = answers, Answers(second)
        compared = Compared(before, after, both)
        changes = compared.changes()
        catalogs = CatalogChanges(before, after, compared.names)
        return Difference(
            old=old,
            compared=compared,
            changes=changes,
            catalogs=catalogs,
            live=_live(compared, catalogs, looked, limit),
            engine=engine_name,
            asked=sum(len(each) for each in dict.fromkeys(both)),
        )


def _live(compared: Compared, catalogs: CatalogChanges, looked: Looked | None, limit: int) -> Live | None:
    if looked is None:
        return None
    from sidecar.reports.comparing import live_between  # noqa: PLC0415 - psycopg is for those with a database

    return live_between(compared, catalogs, looked, limit=limit)
