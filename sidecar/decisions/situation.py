"""Question and facts become the situation that a policy sees; the only place where that happens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from sidecar.decisions.model import Situation

if TYPE_CHECKING:
    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.model import Facts, Json, Question, Room


def situation_of(
    question: Question,
    facts: Facts | None,
    *,
    catalog: Catalog,
    room: Room | None,
    context_fields: frozenset[str],
) -> Situation:
    """What is not declared becomes None, and a stranger's situation tells nothing of the workspace.

    So the situations of a catalog are a closed set, but for context.
    """
    action = catalog.actions.get(question.action)
    name = action.name if action else None
    context = {field: value for field, value in question.context.items() if field in context_fields}
    if facts is None:
        return Situation(action=name, role=None, plan=None, status=None, context=context)

    feature = action.feature if action else None
    overrides = facts.feature_overrides
    return Situation(
        action=name,
        role=facts.role if facts.role in catalog.roles else None,
        plan=facts.plan if facts.plan in catalog.plans else None,
        status=facts.status,
        feature_overrides={feature: overrides[feature]} if feature and feature in overrides else {},
        room=room,
        context=context,
    )


def input_document(situation: Situation) -> dict[str, Json]:
    document: dict[str, Json] = {
        "action": situation.action,
        "role": situation.role,
        "plan": situation.plan,
        "status": situation.status,
        "overrides": {"features": dict(situation.feature_overrides)},
        "room": None
        if situation.room is None
        else {"fits_in": list(situation.room.fits_in), "waiting_helps": situation.room.waiting_helps},
    }
    if situation.context:
        document["context"] = dict(situation.context)
    return document


def situation_bytes(situation: Situation) -> bytes:
    """Canonical JSON: equal situations are equal bytes, so that they are a key and can be replayed."""
    return json.dumps(
        input_document(situation), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()
