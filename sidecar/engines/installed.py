"""The engine that is chosen, imported only then: regopy is an extra, opa_client takes time and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.engines.verdict import ENTRYPOINT
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.engines.embedded import EmbeddedEngine
    from sidecar.engines.opa import OpaEngine
    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled


def import_first(engine: str) -> None:
    """Call it before any other C++ extension is imported: sidecar/engines/embedded.py says why.

    ConfigError if the engine is not installed.
    """
    if engine == "embedded":
        _embedded()


def engine_version(engine: str) -> str | None:
    """Name and version of the embedded engine; None for a server."""
    return f"embedded {_embedded().version}" if engine == "embedded" else None


def engine_of(
    engine: str,
    policies: Compiled | AuthzenPolicy,
    *,
    opa_url: str,
    rules: tuple[str, ...] = (ENTRYPOINT,),
) -> OpaEngine | EmbeddedEngine:
    """The *engine* of that name, for *policies*, to be asked for *rules*; ConfigError as embedded_engine."""
    if engine == "embedded":
        return embedded_engine(policies, rules=rules)
    from sidecar.engines.opa import OpaEngine  # noqa: PLC0415 - half a second and 15 MiB

    return OpaEngine(opa_url, revision=policies.revision)


def embedded_engine(
    policies: Compiled | AuthzenPolicy, *, rules: tuple[str, ...] = (ENTRYPOINT,)
) -> EmbeddedEngine:
    """Of *policies*, to be asked for *rules*. ConfigError if it is not installed, or they do not build."""
    return _embedded()(policies.modules, policies.data, revision=policies.revision, rules=rules)


def _embedded() -> type[EmbeddedEngine]:
    try:
        from sidecar.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - regopy is an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the embedded engine is not installed: pip install 'policy-sidecar[embedded]', or take OPA"
        ) from error
    return EmbeddedEngine
