"""docs/operations/faults.md has a row for each fault that there is, and for no other."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import around, faults, replicas, test_patroni, test_soak, ways
from tests.chaos.table import HEAD, rows_in

PAGE = Path(__file__).parents[2] / "docs/operations/faults.md"


def test_the_page_has_each_fault():
    text = PAGE.read_text()

    assert text.startswith(HEAD)
    assert set(rows_in(text)) == {
        *faults.FAULTS,
        *around.FAULTS,
        *ways.OF_A_PAIR,
        *ways.OF_A_POOLER,
        *replicas.FAULTS,
        test_patroni.NAME,
        test_soak.NAME,
    }
