"""The page about faults: the run writes its rows, those of one run beside those of another."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

HEAD = """# Faults, and what came of them

`make chaos` has written this page, on one machine, with six clients who ask all the time while a fault lasts.

- *wrong* are answers that the database does not mean: an allow, a denial in place of an outage, a minute that
  was taken twice, lost or oversold;
- *recovery* is from the end of the fault to the last outage that a client was told;
- *memory* is by how much the worker grew that grew most.

| fault | lasted | answered | outages | wrong | recovery | memory |
|---|---:|---:|---:|---:|---:|---:|
"""


class Table:
    """In *file*; None: nothing is kept."""

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def write(self, name: str, *cells: str) -> str:
        """The row. It is in the file at once, in place of an older one: a run may be in pieces."""
        row = "| " + " | ".join([name, *cells]) + " |"
        if self._file is not None:
            rows = rows_in(self._file.read_text()) if self._file.exists() else {}
            self._file.write_text(HEAD + "".join(f"{each}\n" for each in (rows | {name: row}).values()))
        return row


def rows_in(text: str) -> dict[str, str]:
    """Each row by the fault that it is of."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return {line.split(" | ")[0].removeprefix("| "): line for line in lines[1:]}
