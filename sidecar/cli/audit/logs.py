"""The decision logs that a command reads, and what the database knows of them."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar.audit.findings import Anchor
from sidecar.audit.masks import key_in, mac_of
from sidecar.errors import ConfigError
from sidecar.telemetry.log_files import log_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sidecar.store.auditing import Looked
    from sidecar.store.evidence import Evidence
    from sidecar.telemetry.log_files import LogFile


def paths_argument() -> Callable[[Any], Any]:
    return click.argument("paths", nargs=-1, required=True, metavar="PATH…")


def mask_key_option() -> Callable[[Any], Any]:
    """The value says how a text stands where it is masked; None without a key."""
    return click.option(
        "--mask-key",
        "masked",
        metavar="FILE",
        envvar="SIDECAR_LOG_MASK_KEY",
        callback=_masked,
        help="The key of the log's masks, to find who is masked.  [env: SIDECAR_LOG_MASK_KEY]",
    )


def files_at(paths: tuple[str, ...]) -> list[LogFile]:
    """UsageError where there is none: a report about nothing would look like a good one."""
    files = log_files(paths)
    if not files:
        raise click.UsageError(f"no .jsonl and no .gz is in {', '.join(paths)}: nothing would be looked at")
    return files


def nothing_in(paths: tuple[str, ...]) -> click.UsageError:
    return click.UsageError(f"{', '.join(paths)}: there is no line: nothing would be looked at")


@contextmanager
def evidence_at(url: str | None) -> Iterator[tuple[Looked, Evidence] | None]:
    """None where no database is named."""
    if not url:
        yield None
        return
    from sidecar.store.auditing import looking  # noqa: PLC0415 - without a database nobody waits for it
    from sidecar.store.evidence import Evidence  # noqa: PLC0415 - as above

    with looking(url) as looked:
        yield looked, Evidence(looked.connection)


def anchors_of(evidence: Evidence) -> dict[str, list[Anchor]]:
    found: dict[str, list[Anchor]] = {}
    for row in evidence.anchors():
        anchor = Anchor(
            number=row["number"],
            head=bytes(row["head"]),
            at=row["at"],
            ended=row["ended"],
            removed=row["removed_at"] is not None,
        )
        found.setdefault(row["writer"], []).append(anchor)
    return found


def _masked(
    context: click.Context,  # noqa: ARG001 - click's signature
    parameter: click.Parameter,  # noqa: ARG001 - click's signature
    text: str | None,
) -> Callable[[str], str] | None:
    if not text:
        return None
    try:
        key = key_in(Path(text).read_bytes())
    except OSError as error:
        raise ConfigError(f"{text} cannot be read: {error.strerror or error}") from error
    return lambda value: mac_of(key, value)
