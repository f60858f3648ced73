"""The verdicts about a catalog's cells, learnt once before a server forks; its workers inherit them."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING

from sidecar.engines.apart import verdicts_apart
from sidecar.engines.installed import engine_version
from sidecar.engines.kept import keep, kept_at
from sidecar.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from sidecar.decisions.model import Verdict
    from sidecar.rego.compile import Compiled

_log = logging.getLogger("sidecar")


def learn_verdicts(
    compiled: Compiled,
    cells: Iterable[bytes],
    *,
    engine: str,
    opa_url: str,
    deadline: float,
    kept: Path | None = None,
) -> dict[bytes, Verdict]:
    """Ask *engine* about *cells* until *deadline*; return all verdicts, or those that came before it failed.

    It leaves no thread, connection or interpreter in this process. *kept* is the cache file of the embedded
    engine's verdicts, read first and written after. ConfigError if the embedded engine cannot take the
    policies.
    """
    cells = list(cells)
    version = engine_version(engine) if kept else None
    known: dict[bytes, Verdict] = {}
    if kept and version:
        before = kept_at(kept, engine=version, revision=compiled.revision)
        known = {cell: before[cell] for cell in cells if cell in before}
    unknown = [cell for cell in cells if cell not in known]
    try:
        known.update(_verdicts(compiled, unknown, engine=engine, opa_url=opa_url, deadline=deadline))
    except DependencyError as error:
        _log.warning("%d of %d verdicts are not learnt yet: %s", len(cells) - len(known), len(cells), error)
    if kept and version and unknown:
        keep(kept, known, engine=version, revision=compiled.revision)
    return known


def _verdicts(
    compiled: Compiled, cells: list[bytes], *, engine: str, opa_url: str, deadline: float
) -> Iterator[tuple[bytes, Verdict]]:
    if engine == "embedded":
        yield from verdicts_apart(compiled, cells, deadline=deadline)
        return
    from sidecar.engines.opa import OpaEngine  # noqa: PLC0415 - half a second and 15 MiB

    with closing(OpaEngine(opa_url, revision=compiled.revision)) as opa:
        yield from opa.verdicts(cells, deadline=deadline)
