"""The embedded engine where it is installed: an image that asks an OPA server goes without regopy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.catalog.compile import Compiled
    from sidecar.engines.embedded import EmbeddedEngine


def embedded_engine(compiled: Compiled) -> EmbeddedEngine:
    """ConfigError if it is not installed, or the policies do not build."""
    try:
        from sidecar.engines.embedded import EmbeddedEngine  # noqa: PLC0415 - regopy is an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the embedded engine is not installed: pip install 'policy-sidecar[embedded]', or take OPA"
        ) from error
    return EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
