"""Verdicts as policies answer them, and as text to compare."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sidecar.decisions.model import Verdict

REVISION = "r1"


def a_grant(**other: object) -> dict[str, Any]:
    return {
        "allow": True,
        "reason": "granted",
        "status": 200,
        "charges": {"minutes": 100, "scenarios": None},
        "upgrade": [],
        "waiting_helps": False,
        "needs": {},
        "detail": None,
        "revision": REVISION,
        **other,
    }


def a_denial(reason: str = "unknown_action", status: int = 403, **other: object) -> dict[str, Any]:
    return a_grant(allow=False, reason=reason, status=status, charges={}) | other


def text_of(verdict: Verdict) -> str:
    return json.dumps(asdict(replace(verdict, charges=dict(verdict.charges))), sort_keys=True)
