"""Matrix: what each role may do on each plan, as sold, as `sidecar audit matrix` says it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from sidecar.audit.forms import csv_text
from sidecar.audit.matrix import COLUMNS, limit_in_words, rows_by_action
from sidecar.console.pages.page import Asked, Made, Page
from sidecar.console.places import linked

if TYPE_CHECKING:
    from sidecar.audit.matrix import Row

_FILTERS = ("plan", "role", "action", "answer")
_ANSWERS = {"allowed": 200, "paid": 402, "denied": 403}


def matrix(asked: Asked) -> Made:
    filters = {name: asked.of(name) for name in _FILTERS if asked.of(name)}
    rows = [row for row in asked.sources.sold.rows if _fits(row, filters)]
    revision = asked.sources.compiled.revision
    if asked.of("format") == "csv":
        text = csv_text(COLUMNS, [list(row.document.values()) for row in rows])
        name = f'attachment; filename="matrix-{revision[:12]}.csv"'
        headers = {"Content-Disposition": name}
        return Made(text=text, content_type="text/csv; charset=utf-8", headers=headers)
    catalog, coverage = asked.sources.compiled.catalog, asked.sources.sold.coverage
    plans = [plan for plan in catalog.plans if filters.get("plan", plan) == plan]
    roles = [role for role in catalog.roles if filters.get("role", role) == role]
    cells = {(row.cell.action, row.cell.plan, row.cell.role): _cell(row) for row in rows}
    return Made(
        template="matrix.html",
        values={
            "filters": filters,
            "plans": plans,
            "roles": roles,
            "all_plans": list(catalog.plans),
            "all_roles": list(catalog.roles),
            "answers": list(_ANSWERS),
            "actions": list(rows_by_action(rows)),
            "cells": cells,
            "count": len(rows),
            "coverage": coverage.as_sold if coverage else None,
            "by_none": coverage.by_none if coverage else [],
            "csv": urlencode({**filters, "format": "csv"}),
            "revision": revision,
        },
    )


def _fits(row: Row, filters: dict[str, str]) -> bool:
    cell, status = row.cell, row.verdict.status
    return (
        filters.get("plan", cell.plan) == cell.plan
        and filters.get("role", cell.role) == cell.role
        and filters.get("action", "") in cell.action
        and _ANSWERS.get(filters.get("answer", ""), status) == status
    )


def _cell(row: Row) -> dict[str, object]:
    verdict = row.verdict
    limits = ", ".join(limit_in_words(meter, limit) for meter, limit in row.limits.items())
    if verdict.allow:
        look, words = "good", "yes"
    elif verdict.upgrade:
        look, words = "warn", f"402 → {verdict.upgrade[0]}"
    else:
        look, words = "bad", "no"
    return {
        "look": look,
        "words": words,
        "more": limits if verdict.allow else verdict.detail or verdict.reason,
        "plans": linked(f"plans.yaml:{row.plans_line}") if row.plans_line else None,
        "rule": linked(row.rule) if row.rule else None,
        "cases": row.cases,
    }


MATRIX = Page(name="matrix", title="Matrix", paths=("/matrix",), make=matrix)
