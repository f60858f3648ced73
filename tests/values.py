"""Values for tests, each with defaults: say only what the test is about."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from sidecar.decisions.model import Facts, Question, Usage
from sidecar.rego.load import catalog_at
from sidecar.settings import shipped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.catalog.catalog import Catalog

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 12, 1, tzinfo=UTC)
WORKSPACE_ID = UUID("3f2b8a52-1111-4222-8333-444455556666")
FAR_AWAY = float("inf")  # a deadline that no test reaches


def the_catalog() -> Catalog:
    return catalog_at(shipped("plans.yaml"))


def a_question(
    action: str = "platform.use", *, user: str = "adam", workspace: str = "acme", **more
) -> Question:
    return Question(user=user, workspace=workspace, action=action, **more)


def some_facts(
    *,
    role: str = "member",
    plan: str = "team",
    status: str = "active",
    slug: str = "acme",
    feature_overrides: Mapping[str, bool] | None = None,
    limit_overrides: Mapping[str, int | None] | None = None,
    usage: Mapping[str, int] | None = None,
    reserved: Mapping[str, int] | None = None,
) -> Facts:
    return Facts(
        workspace_id=WORKSPACE_ID,
        slug=slug,
        name="Acme",
        role=role,
        plan=plan,
        status=status,
        feature_overrides=feature_overrides or {},
        limit_overrides=limit_overrides or {},
        usage={
            meter: Usage(
                used=(usage or {}).get(meter, 0),
                reserved=(reserved or {}).get(meter, 0),
                resets_at=NEXT_MONTH if meter == "minutes" else None,
            )
            for meter in ("members", "minutes", "scenarios")
        },
        at=NOON,
        token=1,
    )
