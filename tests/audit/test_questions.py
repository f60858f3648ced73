"""Question cells become situations by the code that serves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.audit.questions import QuestionCell, Situations, question_cells
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
CATALOG = COMPILED.catalog


def test_there_is_a_cell_for_each_declared_action_role_plan_status_and_override():
    cells = list(question_cells(CATALOG))

    assert len(cells) == len(set(cells))
    sold = [cell for cell in cells if cell.as_sold]
    assert len(sold) == len(CATALOG.declared_actions) * len(CATALOG.roles) * len(CATALOG.plans)
    assert {cell.override for cell in cells if CATALOG.actions[cell.action].feature is None} == {"none"}


@pytest.mark.parametrize("cell", list(question_cells(CATALOG)), ids=str)
def test_as_sold_there_is_room_and_when_full_there_is_none(cell):
    situations = Situations(CATALOG)
    takes = CATALOG.actions[cell.action].takes

    here, full = situations.of(cell).room, situations.when_full(cell)

    assert (here is None) == (full is None) == (not takes)
    if here and full and full.room:
        assert cell.plan in here.fits_in
        limited = any(CATALOG.plans[cell.plan].limits[meter] is not None for meter in takes)
        assert (cell.plan in full.room.fits_in) != limited


def test_a_name_that_the_catalog_lacks_is_null():
    cell = QuestionCell(action="nothing.there", role="ghost", plan="gold")

    situation = Situations(CATALOG).of(cell)

    assert (situation.action, situation.role, situation.plan) == (None, None, None)


def test_a_plan_without_room_has_it_by_a_limit_of_the_workspaces_own():
    name = "recording.start"
    [meter] = CATALOG.actions[name].takes
    starter = CATALOG.plans["starter"]
    small = replace(
        CATALOG, plans={**CATALOG.plans, "starter": replace(starter, limits={**starter.limits, meter: 0})}
    )

    room = Situations(small).of(QuestionCell(action=name, role="member", plan="starter")).room

    assert room is not None
    assert room.fits_in == tuple(sorted(small.plans))  # an overridden limit holds in every plan
