"""What a server's files say, told by its master to all its workers in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "wanted.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The *revision* of the files *since* then (ISO 8601); *cause* and *do*: why it did not take over."""

    revision: str
    since: str
    cause: str | None = None
    do: str | None = None


def want(folder: Path, revision: str, *, cause: str | None = None, do: str | None = None) -> None:
    """OSError where it cannot be written."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    content = json.dumps(asdict(Wanted(revision=revision, since=since, cause=cause, do=do)))
    new = folder / f"{_FILE}.new"
    new.write_text(content, encoding="utf-8")
    new.replace(folder / _FILE)


def wanted_in(folder: Path) -> Wanted | None:
    """None where nobody has reloaded, or somebody has cleaned the folder."""
    try:
        return Wanted(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
