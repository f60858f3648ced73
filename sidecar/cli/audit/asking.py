"""The engine that a command of `sidecar audit` asks."""

from __future__ import annotations

from contextlib import contextmanager
from subprocess import run
from typing import TYPE_CHECKING

from sidecar.engines.installed import embedded_engine, engine_of, engine_version
from sidecar.engines.verdict import ENTRYPOINT
from sidecar.rego.lint import opa_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.engines.embedded import EmbeddedEngine
    from sidecar.engines.opa import OpaEngine
    from sidecar.rego.compile import Compiled


@contextmanager
def engine_for(
    compiled: Compiled, named: str | None, *, rules: tuple[str, ...] = (ENTRYPOINT,)
) -> Iterator[tuple[OpaEngine | EmbeddedEngine, str]]:
    """The engine and its name with version, as "opa 1.22.2"; NotAsked (69) if OPA is named and not there.

    Where none is *named* it is OPA if its binary is there, else the embedded engine.
    """
    if named == "embedded" or (named is None and opa_binary() is None):
        yield embedded_engine(compiled, rules=rules), engine_version("embedded") or "embedded"
        return
    from sidecar.local.opa import local_opa  # noqa: PLC0415 - only OPA's users wait for it

    with local_opa(compiled) as url:
        yield engine_of("opa", compiled, opa_url=url), f"opa {_version_of_opa()}"


def _version_of_opa() -> str:
    said = run([str(opa_binary()), "version"], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603 - our own OPA, no shell
    return said.stdout.splitlines()[0].removeprefix("Version: ")
