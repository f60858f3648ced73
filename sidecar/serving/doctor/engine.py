"""What evaluates the policies: an OPA server that answers by these files, or the embedded engine."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api.authzen.policy import Rules
from sidecar.engines.installed import engine_of, engine_version
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable
from sidecar.serving.doctor.check import finding, ok, skipped

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled
    from sidecar.serving.doctor.check import Check
    from sidecar.settings import Settings

_ASKED_WITHIN_S = 2.0
_LOAD = "let it poll a sidecar's /bundles/authz.tar.gz, or give it what `sidecar compile -o` writes"
_RELOAD = "reload the sidecar whose bundle it polls, or give it a new one by `sidecar compile -o`"


def engine_checks(
    settings: Settings, compiled: Compiled | None, authzen: AuthzenPolicy | None
) -> Iterator[Check]:
    """*compiled* and *authzen*: what the files say, where they are right."""
    if compiled is None:
        yield skipped("engine", "not asked, since the files are not right")
        return
    if settings.engine == "embedded":
        try:
            yield ok("engine", engine_version("embedded") or "embedded")
        except ConfigError as error:
            yield finding("engine", error.detail, "install it here, or set SIDECAR_ENGINE to opa")
        return
    try:
        engine = engine_of(settings.engine, compiled, opa_url=settings.opa_url)
        served = engine.served_revision(deadline=monotonic() + _ASKED_WITHIN_S)
    except (EngineUnavailable, ConfigError) as error:
        yield finding("opa", error.detail, "start it, or correct SIDECAR_OPA_URL")
        return
    except EngineMisbehaved as error:
        yield ok("opa", f"reachable at {settings.opa_url}")
        yield finding("opa bundle", error.detail, _LOAD)
        return
    yield ok("opa", f"reachable at {settings.opa_url}")
    yield ok("opa bundle", "loaded")
    yield _compared("opa revision", served, compiled.revision)
    if authzen is not None:
        yield _of_authzen(settings, authzen)


def _of_authzen(settings: Settings, policy: AuthzenPolicy) -> Check:
    name = "opa authzen revision"
    rules = tuple(policy.rules.values())
    engine = engine_of(settings.engine, policy, opa_url=settings.opa_url, rules=rules)
    try:
        served = Rules(policy, engine).served_revision(deadline=monotonic() + _ASKED_WITHIN_S)
    except (EngineUnavailable, EngineMisbehaved) as error:
        return finding(name, error.detail, _LOAD)
    return _compared(name, served, policy.revision)


def _compared(name: str, served: str, wanted: str) -> Check:
    if served == wanted:
        return ok(name, f"{served[:8]}…, as the files say")
    return finding(name, f"{served[:8]}… is answered by, and the files are {wanted[:8]}…", _RELOAD)
