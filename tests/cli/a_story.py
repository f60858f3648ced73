"""Some months of a company and a day's log of its sidecar, of which docs/audit.md asks twelve questions."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sidecar.settings import shipped
from tests.cli.a_company import Company, a_company
from tests.cli.audited.conftest import a_sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DUTIES = "  - {title: nobody invites and pays, separate: {actions: [members.invite, billing.manage]}}\n"
TRANSFER = (
    "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'olivia';"
    "UPDATE authz.workspace_memberships SET role = 'owner' WHERE user_id = 'adam'"
)
CHANGES = (
    ("[video_avatar, live_coaching, analytics]", "[video_avatar, live_coaching]"),
    ("[team_sessions, team_analytics]", "[team_sessions, team_analytics, analytics]"),
    ("members.remove: {role: admin}", "members.remove: {role: owner}"),
    ("{minutes: 100,", "{minutes: 60,"),
)


@dataclass
class Story:
    """*decision* is the id of the denial that somebody asks about; the log is in *folder*/log."""

    company: Company
    folder: Path
    decision: str


def with_changes(plans: str) -> str:
    """A plans.yaml in which analytics costs more, admins remove nobody, and starter has fewer minutes."""
    for before, after in CHANGES:
        assert before in plans
        plans = plans.replace(before, after)
    return plans


@contextmanager
def a_story(url: str, folder: Path) -> Iterator[Story]:
    """Mia became an admin 20 days ago, and Adam the owner of acme 16 days ago; the rest is of 80 days ago."""
    plans = shipped("plans.yaml").read_text() + DUTIES
    (folder / "plans.yaml").write_text(plans)
    (folder / "new.yaml").write_text(with_changes(plans))
    shutil.copytree(shipped("policies"), folder / "policies")
    with a_company(url, folder, auditor="auditor") as company:
        before = "SELECT COALESCE(max(id), 0) FROM authz.outbox"
        _date(company, "true", days=80)
        company.unseen("UPDATE authz.policy_history SET at = clock_timestamp() - interval '80 days'")
        for days, statement in (
            (20, "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'"),
            (16, TRANSFER),
        ):
            ((last,),) = company.rows(before)
            company.do(statement, by="olivia")
            _date(company, f"id > {last}", days=days)
        with a_sidecar(
            folder, url, plans=folder / "plans.yaml", policies=folder / "policies", workers=1
        ) as sidecar:
            feature, limit = {"features": {"team_analytics": True}}, {"limits": {"minutes": 5000}}
            of_solo = {"user": "sam", "workspace": "solo"}
            asked = [
                denial := sidecar.ask(**of_solo, action="analytics.view"),
                sidecar.ask(user="mia", action="billing.manage"),
                sidecar.request("PUT", "/v1/workspaces/piano/overrides", feature),
                sidecar.ask(user="pia", workspace="piano", action="team_analytics.view"),
                sidecar.request("PUT", "/v1/workspaces/solo/overrides", limit),
                sidecar.ask(**of_solo, mode="consume", amounts={"minutes": 400}),
                sidecar.request("PUT", "/v1/workspaces/solo/plan", {"plan": "pro"}),
            ]
            assert {status for status, _ in asked} == {200}, asked
        yield Story(company, folder, denial[1]["decision_id"])


def _date(company: Company, which: str, *, days: int) -> None:
    company.unseen(f"UPDATE authz.outbox SET at = clock_timestamp() - interval '{days} days' WHERE {which}")
