"""The embedded engine where it is installed: an image that asks an OPA server goes without regopy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.engines.verdict import ENTRYPOINT
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.catalog.authzen import AuthzenPolicy
    from sidecar.catalog.compile import Compiled
    from sidecar.engines.embedded import EmbeddedEngine


def embedded_engine(
    policies: Compiled | AuthzenPolicy, *, rules: tuple[str, ...] = (ENTRYPOINT,)
) -> EmbeddedEngine:
    """Of *policies*, to be asked for *rules*. ConfigError if it is not installed, or they do not build."""
    try:
        from sidecar.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - regopy is an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the embedded engine is not installed: pip install 'policy-sidecar[embedded]', or take OPA"
        ) from error
    return EmbeddedEngine(policies.modules, policies.data, revision=policies.revision, rules=rules)
