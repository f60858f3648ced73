"""An engine for commands, asked about many situations at once: OPA where its binary is, else embedded."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.engines.by_opa import documents_by_opa
from sidecar.engines.verdict import named_revision
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable, NotAsked

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sidecar.rego.compile import Compiled

_WITHIN_S = 120.0


class ManyAtOnce:
    """*opa* None stands for the embedded engine, which is asked in a process of its own."""

    def __init__(self, opa: Path | None) -> None:
        self._opa = opa

    def documents(self, compiled: Compiled, rule: str, situations: Sequence[bytes], /) -> Sequence[object]:
        """What *rule* is in each situation, in order; EngineMisbehaved, as a value, where it is nothing.

        The list may end behind the first of these. NotAsked if the engine does not run, or not in time.
        """
        if not situations:
            return []
        deadline = monotonic() + _WITHIN_S
        if self._opa is not None:
            return documents_by_opa(compiled, rule, situations, opa=self._opa, deadline=deadline)
        from sidecar.engines.apart import documents_apart  # noqa: PLC0415 - only where there is no OPA

        found: list[object] = []
        try:
            found.extend(documents_apart(compiled, rule, situations, deadline=deadline))
        except ConfigError as error:
            found.append(EngineMisbehaved(error.detail))
        except EngineUnavailable as error:
            raise NotAsked(error.detail) from error
        return found

    def fault_of(self, verdict: object, /) -> str | None:
        """Why it is no verdict; None if it is one."""
        if isinstance(verdict, Exception):
            return " ".join(str(verdict).split())
        try:
            named_revision(verdict)
        except EngineMisbehaved as error:
            return error.detail
        return None
