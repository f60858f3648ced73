"""The database, as a worker's session finds it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, NotAsked, SidecarError
from sidecar.serving.doctor.check import finding, ok, skipped, warning
from sidecar.store.auditing import looking
from sidecar.store.condition import condition_of
from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.isolated import is_of_publication
from sidecar.store.postgres import PostgresFacts
from sidecar.store.session_setup import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.rego.compile import Compiled
    from sidecar.serving.doctor.check import Check
    from sidecar.settings import Settings
    from sidecar.store.condition import Condition

_VERSIONS = range(15, 19)
_MOST_SHOWN = 5
_NOTED_S, _TOO_FAR_S = 10.0, 300.0  # of clocks: tokens allow the first; beyond the other no period begins
_ASKED_WITHIN_S = 1.5
_MIGRATE = "run `sidecar migrate` with this server's files"
_RECONNECT = (
    "the login's defaults are right: let the pooler connect anew (RECONNECT in PgBouncer's console), and let"
    " no other application use this login"
)


def database_checks(settings: Settings, compiled: Compiled | None) -> Iterator[Check]:
    """*compiled*: what the files say, if they are right."""
    lock_timeout_s = settings.deadline_s / 2
    try:
        found = condition_of(settings.database_url, lock_timeout_s=lock_timeout_s, options=_options(settings))
    except (ConfigError, NotAsked) as error:
        do = "is the server up, SIDECAR_DATABASE_URL right, and its login and password those of the server?"
        if "startup parameter" in str(error):
            do = "a pooler stands between: set SIDECAR_DATABASE_POOLER (docs/operations/poolers.md)"
        yield finding("database", str(error), do)
        return
    yield ok("database", f"reachable, as {found.login}")
    yield _version(found)
    yield _primary(found)
    yield from _role(found)
    yield from _session(found)
    yield from _login_defaults(found)
    yield _clock(found)
    yield _schema(found)
    if found.has_schema and not found.absent:
        yield _grants(found)
        yield from _drift(found)
        yield from _isolation(found)
        if found.faults or found.in_recovery or found.read_only:
            yield skipped("database catalog", "not compared: correct the session first")
        else:
            yield _catalog(settings, compiled)


def auditor_checks(settings: Settings) -> Iterator[Check]:
    """The login by which the console reads histories, where there is one."""
    name = "auditor"
    if settings.audit_url is None:
        return
    try:
        with looking(settings.audit_url) as looked:
            yield ok(name, f"{looked.login} may read histories")
    except (ConfigError, NotAsked) as error:
        do = "correct SIDECAR_AUDIT_URL: it needs a login with the role authz_audit (docs/console.md)"
        yield finding(name, str(error), do)


def _version(found: Condition) -> Check:
    major, minor = divmod(found.version, 10_000)
    says = f"PostgreSQL {major}.{minor}, {found.encoding}"
    if major not in _VERSIONS:
        return finding("database version", says, f"use {_VERSIONS[0]} to {_VERSIONS[-1]}")
    if found.encoding != "UTF8":
        return finding("database version", says, "the encoding must be UTF8: make another database")
    return ok("database version", says)


def _primary(found: Condition) -> Check:
    if found.in_recovery:
        says = "a standby: it cannot be written to"
        return finding(
            "database primary", says, "name the primary in SIDECAR_DATABASE_URL, or promote this one"
        )
    if found.read_only:
        says = "its transactions are read-only"
        return finding(
            "database primary", says, "ALTER DATABASE or ROLE … RESET default_transaction_read_only"
        )
    return ok("database primary", "a primary that can be written to")


def _role(found: Condition) -> Iterator[Check]:
    name = "database role"
    if found.is_member is None:
        yield finding(name, "there is no role authz_sidecar", _MIGRATE)
    elif not found.is_member:
        yield finding(name, f"{found.login} lacks the role", f"GRANT authz_sidecar TO {found.login}")
    elif found.role != ROLE:
        yield from _faults(found, name, "role")
    elif found.is_superuser:
        says = f"authz_sidecar, but {found.login} is a superuser: whoever has its password has everything"
        yield warning(name, says, "use a login that has the role authz_sidecar and nothing else")
    else:
        yield ok(name, "authz_sidecar")


def _session(found: Condition) -> Iterator[Check]:
    """What a worker refuses a session for, its role apart."""
    says = (
        f"statement_timeout {found.statement_timeout_ms:g} ms, lock_timeout {found.lock_timeout_ms:g} ms,"
        f" {found.isolation}"
    )
    timeouts = ("statement_timeout", "lock_timeout", "default_transaction_isolation")
    yield from _faults(found, "database timeouts", *timeouts) or [ok("database timeouts", says)]
    yield from _faults(found, "database search path", "search_path")


def _faults(found: Condition, name: str, *settings: str) -> list[Check]:
    """Of these settings of the session; behind a pooler it may be older than what the login has by now."""
    still_wrong = {each.setting for each in found.login_faults or ()}
    return [
        finding(
            name,
            each.says,
            each.do if found.login_faults is None or each.setting in still_wrong else _RECONNECT,
        )
        for each in found.faults
        if each.setting in settings
    ]


def _login_defaults(found: Condition) -> Iterator[Check]:
    """What the session has by chance: another one of the same pooler will not."""
    if found.login_faults is None:
        return
    name = "database login defaults"
    said = {each.setting for each in found.faults}
    hidden = [each for each in found.login_faults if each.setting not in said]
    for each in hidden:
        yield finding(name, f"this session differs, but of a new one {each.says}", each.do)
    if not found.login_faults:
        yield ok(name, f"a new session of {found.login} begins as it has to")


def _clock(found: Condition) -> Check:
    ahead = found.clock_ahead_s
    says = f"{abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > _TOO_FAR_S:
        return finding("database clock", says, "set both clocks by NTP")
    if abs(ahead) > _NOTED_S:
        return warning("database clock", says, "set both clocks by NTP: tokens expire by this machine's")
    return ok("database clock", says)


def _schema(found: Condition) -> Check:
    name = "database schema"
    at = "" if found.migrated_to is None else f" at migration {found.migrated_to:04}"
    if not found.has_schema:
        return finding(name, "there is none", _MIGRATE)
    if found.absent:
        return finding(name, f"an older one{at}: it lacks {_some(found.absent)}", _MIGRATE)
    if found.migrated_to is not None and found.migrated_to < found.migrations:
        return finding(name, f"an older one{at}, and this version has {found.migrations:04}", _MIGRATE)
    if found.migrated_to is not None and found.migrated_to > found.migrations:
        return warning(name, f"a newer one{at}", "fine during a rollout; then start the newer version here")
    return ok(name, f"all functions that are called are there{at}")


def _grants(found: Condition) -> Check:
    if found.forbidden:
        says = f"authz_sidecar may not execute {_some(found.forbidden)}"
        return finding("database grants", says, "GRANT EXECUTE ON FUNCTION authz.… TO authz_sidecar")
    return ok("database grants", "authz_sidecar may execute all that it calls")


def _drift(found: Condition) -> Iterator[Check]:
    name = "database drift"
    if not found.differences:
        yield ok(name, "none found")
    for each in found.differences[:_MOST_SHOWN]:
        yield finding(name, each.says, each.do)
    if (more := len(found.differences) - _MOST_SHOWN) > 0:
        yield finding(name, f"{more} more differences", "`sidecar migrate --check` lists them all")


def _isolation(found: Condition) -> Iterator[Check]:
    """Isolate warned of most when it was called: a warning, but for what also ends Supabase's Realtime."""
    name, gaps = "database isolation", found.isolation_gaps
    if gaps is None:
        yield skipped(name, "not looked at: the role may not ask, or it took more than 3 seconds")
        return
    if not gaps:
        yield ok(name, "nothing found that shows rows of isolated tables to other workspaces")
    for each in sorted(gaps, key=is_of_publication, reverse=True)[:_MOST_SHOWN]:
        yield (finding if is_of_publication(each) else warning)(name, each.says, each.do)
    if len(gaps) > _MOST_SHOWN:
        do = "as the owner: SELECT * FROM authz.isolation_gaps()"
        yield warning(name, f"{len(gaps) - _MOST_SHOWN} more of the same kind", do)


def _catalog(settings: Settings, compiled: Compiled | None) -> Check:
    name = "database catalog"
    if compiled is None:
        return skipped(name, "not compared, since the files are not right")
    store = PostgresFacts(
        settings.database_url, catalog=compiled.catalog, pool_size=1, options=_options(settings)
    )
    store.open()
    try:
        deadline = monotonic() + _ASKED_WITHIN_S
        missing = store.missing(compiled.catalog, deadline=deadline)
        revision = store.revision(deadline=deadline)
    except SidecarError as error:
        return finding(name, str(error), _MIGRATE)
    finally:
        store.close()
    if missing:
        return finding(name, _some(missing, between="; "), _MIGRATE)
    if revision != compiled.revision:
        says = f"{_short(revision)} is published, and the files are {_short(compiled.revision)}"
        return finding(name, says, f"{_MIGRATE}, or give this server the files that are published")
    return ok(name, f"{_short(revision)} is published, as the files say")


def _options(settings: Settings) -> ConnectionOptions:
    return ConnectionOptions(pooler=settings.database_pooler)


def _short(revision: str | None) -> str:
    return f"{revision[:8]}…" if revision else "nothing"


def _some(names: tuple[str, ...], *, between: str = ", ") -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return between.join(names[:_MOST_SHOWN]) + more
