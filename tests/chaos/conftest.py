from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos.table import Table


@pytest.fixture(scope="session")
def table() -> Table:
    """`CHAOS_TABLE` is the file."""
    name = os.environ.get("CHAOS_TABLE")
    return Table(Path(name) if name else None)
