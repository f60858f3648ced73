"""The replicas that checks would read, as a worker would find them."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, DatabaseNotMigrated, FactsMisread, NotAsked
from sidecar.serving.doctor.check import finding, ok, warning
from sidecar.store.connecting import session_faults
from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.positions import UNASKED, Unproven
from sidecar.store.replica_condition import lag_of
from sidecar.store.session import Late, Lost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.serving.doctor.check import Check
    from sidecar.settings import Settings

_SEE = "see docs/operations/replicas.md"


def replica_checks(settings: Settings) -> Iterator[Check]:
    options = ConnectionOptions(pooler=settings.database_pooler, target_session_attrs="any")
    for number, url in enumerate(settings.facts_urls, start=1):
        yield _check(f"replica {number}", settings, url, options)


def _check(name: str, settings: Settings, url: str, options: ConnectionOptions) -> Check:
    try:
        faults = session_faults(url, options=options)
        if faults:
            return finding(name, "; ".join(faults), "it has the logins of the primary: set them there")
        lag_s = lag_of(settings.database_url, url, options=options)
    except (ConfigError, NotAsked, FactsMisread, Lost, Late) as error:
        do = "is it up, its URL right, and does its login have the role authz_sidecar on the primary?"
        return finding(name, str(error), do)
    except DatabaseNotMigrated as error:
        return finding(name, error.detail, "run `sidecar migrate`, and see that it replays")
    except Unproven as why:
        if why.code == UNASKED:  # which the first sidecar that starts will do
            return ok(name, "reachable, and in recovery as far as can be told before a sidecar reads it")
        return finding(name, f"never read: {why}", _SEE)
    bound_ms = settings.facts_max_lag_ms
    if lag_s == inf:
        return finding(name, "more than a second behind the primary: it is not read", _SEE)
    says = f"reachable, in recovery, at most {lag_s * 1000:.0f} ms behind"
    if lag_s * 1000 > bound_ms:
        return warning(name, f"{says}: more than SIDECAR_FACTS_MAX_LAG_MS, {bound_ms}", _SEE)
    return ok(name, says)
