"""What a process loads before it forks, and what a worker builds once: the one place that joins the parts."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from itertools import islice
from math import inf
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.audit.cells import cells
from sidecar.authorizer import Authorizer
from sidecar.catalog.authzen import DECISION, authzen_policy_at
from sidecar.catalog.compile import bundle
from sidecar.catalog.load import compiled_at
from sidecar.decider import Decider
from sidecar.effects import Effects
from sidecar.engines.installed import embedded_engine
from sidecar.engines.memo import MemoisedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.errors import (
    ConfigError,
    DatabaseNotMigrated,
    DependencyError,
    EngineMisbehaved,
    Problem,
    RevisionMismatch,
    SidecarError,
)
from sidecar.invitations import Invitations
from sidecar.people import People
from sidecar.routes import Routes
from sidecar.situation import situation_bytes
from sidecar.store.ledger import PostgresLedger
from sidecar.store.people import PostgresPeople
from sidecar.store.postgres import PostgresFacts
from sidecar.store.workspaces import WorkspaceStore
from sidecar.web.app import Application
from sidecar.web.authzen_domain import Authzen
from sidecar.web.authzen_policy import PolicyDomain, Rules
from sidecar.web.authzen_workspaces import Workspaces
from sidecar.web.callers import ANYBODY, callers_in
from sidecar.web.decision_log import DecisionLog
from sidecar.web.endpoint import Readiness, Service
from sidecar.web.fit import CatalogFit
from sidecar.web.identity import identities_of
from sidecar.web.metrics import (
    MeasuredEngine,
    MeasuredFacts,
    MeasuredLedger,
    MeasuredRules,
    Metrics,
)
from sidecar.web.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from sidecar.catalog.authzen import AuthzenPolicy
    from sidecar.catalog.compile import Compiled
    from sidecar.engines.embedded import EmbeddedEngine
    from sidecar.settings import Settings
    from sidecar.web.authzen_domain import Domain
    from sidecar.web.callers import Callers
    from sidecar.web.gateways.envoy import EnvoyServer
    from sidecar.web.identity import Identities

_log = logging.getLogger("sidecar")

_GRPC = "sidecar.web.gateways.envoy"  # imported where it is wanted: it needs an extra
_MOST_REMEMBERED = 50_000  # cells; the simplest come first
_WARM_WITHIN_S = 30.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 1.0
_PROBE_EVERY_S, _PROBE_AGAIN_S = 1.0, 0.25  # while all is well, and while it is not
_PROBE_WITHIN_S = 1.0
_FIT_WITHIN_S = 5.0  # a reload is in no hurry: the generation before serves meanwhile
_NOT_PROBED = Readiness(ready=False, parts={"worker": {"ready": False, "code": "starting"}})


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that the files say. Workers inherit it by the fork, so all of a generation decide alike."""

    compiled: Compiled
    bundle: bytes
    callers: Callers
    identities: Identities | None
    authzen: AuthzenPolicy | None = None


def loaded(settings: Settings) -> Loaded:
    """ConfigError with every problem of plans, policies, tokens and keys."""
    problems: list[Problem] = []
    compiled, callers, identities, authzen = None, None, None, None
    try:
        compiled = compiled_at(settings.plans, settings.policies)
        if settings.engine == "embedded":
            embedded_engine(compiled)  # do they build?
    except ConfigError as error:
        problems += error.problems or (Problem(pointer="", detail=error.detail),)
    try:
        authzen = _authzen_policy(settings)
    except ConfigError as error:
        problems += error.problems or (Problem(pointer=str(settings.authzen_policy), detail=error.detail),)
    try:
        WorkspaceStore(settings.database_url)  # is the URL one?
    except ConfigError:  # in its own words it would show the password
        problems.append(
            Problem(pointer="SIDECAR_DATABASE_URL", detail="is not a connection string that libpq can read")
        )
    if settings.grpc_bind:
        try:
            import_module(_GRPC)
        except ModuleNotFoundError as error:
            detail = f"a grpc:// address needs the extra `grpc`: {error.name} is not installed"
            problems.append(Problem(pointer="SIDECAR_BIND", detail=detail))
    try:
        callers = callers_in(settings.tokens)
    except ConfigError as error:
        problems += error.problems
    try:
        identities = identities_of(settings)
    except ConfigError as error:
        problems += error.problems
    if compiled is None or callers is None or problems:
        raise ConfigError("the files are not right", problems=tuple(problems))
    return Loaded(
        compiled=compiled,
        bundle=bundle(compiled, authzen),
        callers=callers,
        identities=identities,
        authzen=authzen,
    )


class Worker:
    """One process that serves. *bundle* gives the newest generation's, for OPA to move on to."""

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        *,
        metrics_folder: Path | None = None,
        newest_bundle: Callable[[], bytes] | None = None,
    ) -> None:
        compiled = loaded.compiled
        self._metrics = Metrics(engine=settings.engine, revision=compiled.revision, folder=metrics_folder)
        self._revision = compiled.revision
        self._engine = _engine(settings, compiled)
        self._memo = MemoisedEngine(
            MeasuredEngine(self._engine, metrics=self._metrics),
            cells=map(situation_bytes, islice(cells(compiled.catalog), _MOST_REMEMBERED)),
            observe=self._metrics.observe_memo,
        )
        self._store = PostgresFacts(
            settings.database_url,
            catalog=compiled.catalog,
            pool_size=settings.threads,
            lock_timeout_s=settings.deadline_s / 2,
            observe=self._metrics.observe_pool,
        )
        self._fit = CatalogFit(self._store, compiled.catalog)
        self._workspaces = WorkspaceStore(settings.database_url)
        self._log = DecisionLog(on_drop=self._metrics.dropped)
        self._warm = Event()
        self._stopping = Event()
        self._why_cold: SidecarError | None = None
        self._readiness = _NOT_PROBED
        self._loaded = loaded
        self._newest_bundle = newest_bundle or (lambda: loaded.bundle)
        self._settings = settings
        self._grpc: EnvoyServer | None = None
        self._grpc_ended: Event | None = None
        authorizer = Authorizer(
            catalog=compiled.catalog,
            context_fields=compiled.context_fields,
            policy=self._memo,
            facts=MeasuredFacts(self._store, metrics=self._metrics),
        )
        ledger = PostgresLedger(self._store.connections, catalog=compiled.catalog)
        effects = Effects(authorizer, ledger=MeasuredLedger(ledger, metrics=self._metrics))
        domain: Domain = Workspaces(authorizer, metrics=self._metrics)
        self._rules: Rules | None = None
        if loaded.authzen is not None:
            rule_engine = _rule_engine(settings, loaded.authzen)
            self._rules = Rules(loaded.authzen, MeasuredRules(rule_engine, metrics=self._metrics))
            domain = PolicyDomain(self._rules, metrics=self._metrics)
        people = PostgresPeople(reads=self._store.connections, changes=self._workspaces.connections)
        self.application = Application(
            Service(
                authorizer=authorizer,
                effects=effects,
                decider=Decider(authorizer, effects),
                people=People(authorizer, store=people),
                invitations=Invitations(authorizer, store=people),
                routes=Routes(compiled.catalog.routes),
                workspaces=self._workspaces,
                callers=loaded.callers,
                identities=loaded.identities,
                metrics=self._metrics,
                log=self._log,
                authzen=Authzen(
                    domain=domain,
                    url=settings.authzen_url,
                    anybody=ANYBODY if settings.authzen_anonymous else None,
                ),
                deadline_s=settings.deadline_s,
                bundle=self._bundle,
                readiness=self.readiness,
                serving=self._warm.is_set,
            )
        )

    def open(self) -> None:
        """After the fork: connections and threads do not survive one."""
        self._log.start()
        self._store.open()
        self._workspaces.open()

    def start(self) -> None:
        if self._loaded.identities is not None:
            self._loaded.identities.start()
        Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        Thread(target=self._keep_probing, name="readiness", daemon=True).start()

    def listen(self) -> None:
        """Where the sidecar speaks gRPC; what speaks HTTP is gunicorn's."""
        if self._settings.grpc_bind:
            server: EnvoyServer = import_module(_GRPC).EnvoyServer(
                self.application.service, self._settings.grpc_bind, threads=self._settings.threads
            )
            server.start()
            self._grpc = server

    def listen_no_more(self) -> None:
        if self._grpc is not None and self._grpc_ended is None:
            self._grpc_ended = self._grpc.end(grace_s=self._settings.grace_s)

    def stop(self) -> None:
        self.listen_no_more()
        if self._grpc_ended is not None:
            self._grpc_ended.wait()
        self._stopping.set()
        self._store.close()
        self._workspaces.close()
        self._log.stop()

    def why_unfit(self) -> str | None:
        """Why this generation must not take over from the one before: the database does not fit it."""
        return self._fit.why_not(deadline=monotonic() + _FIT_WITHIN_S)

    def wait_until_warm(self, timeout_s: float) -> bool:
        return self._warm.wait(timeout_s)

    def _warm_up(self) -> None:
        """Learn every verdict, however long it takes until the engine answers by our revision."""
        retry_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                self._memo.warm(deadline=monotonic() + _WARM_WITHIN_S)
                if self._rules is not None:
                    self._rules.answer(DECISION, b"{}", deadline=monotonic() + _PROBE_WITHIN_S)
            except DependencyError as error:
                if self._why_cold is None or self._why_cold.code != error.code:
                    _log.warning("not ready: %s (%s)", error.detail, error.code)
                self._why_cold = error
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
            else:
                self._why_cold = None
                self._warm.set()
                _log.info("ready: revision %s, %d verdicts known", self._revision, len(self._memo))
                return

    def readiness(self) -> Readiness:
        """As the last probe found it: whoever asks waits for nothing."""
        return self._readiness

    def _keep_probing(self) -> None:
        while not self._stopping.is_set():
            self._readiness = self._probed()
            self._stopping.wait(_PROBE_EVERY_S if self._readiness.ready else _PROBE_AGAIN_S)

    def _probed(self) -> Readiness:
        deadline = monotonic() + _PROBE_WITHIN_S
        parts = {
            "worker": self._of_itself(),
            "policy_engine": self._of(lambda: self._engine.served_revision(deadline=deadline)),
            "database": self._of(lambda: self._published_revision(deadline=deadline)),
        }
        if (rules := self._rules) is not None:
            parts["authzen_policy"] = self._of(
                lambda: rules.served_revision(deadline=deadline), wanted=rules.revision
            )
        return Readiness(ready=all(part["ready"] for part in parts.values()), parts=parts)

    def _published_revision(self, *, deadline: float) -> str | None:
        self._fit.require(deadline=deadline)
        return self._store.revision(deadline=deadline)

    def _of_itself(self) -> Mapping[str, object]:
        if self._warm.is_set():
            return {"ready": True, "revision": self._revision}
        code = self._why_cold.code if self._why_cold else "starting"
        return {"ready": False, "revision": self._revision, "code": code, "why": PROBLEMS[code][1]}

    def _of(self, revision: Callable[[], str | None], *, wanted: str | None = None) -> Mapping[str, object]:
        wanted = wanted or self._revision
        try:
            found = revision()
        except DatabaseNotMigrated as error:
            self._fit.log_once(error)
            return {"ready": False, "code": error.code, "why": error.detail}
        except DependencyError as error:
            return {"ready": False, "code": error.code, "why": PROBLEMS[error.code][1]}
        if found == wanted:
            return {"ready": True, "revision": found}
        return {
            "ready": False,
            "revision": found,
            "code": RevisionMismatch.code,
            "why": f"has revision {found}, this worker decides by {wanted}",
        }

    def _bundle(self) -> tuple[bytes, str]:
        content = self._newest_bundle()
        return content, f'"{sha256(content).hexdigest()[:32]}"'


def _engine(settings: Settings, compiled: Compiled) -> OpaEngine | EmbeddedEngine:
    if settings.engine == "embedded":
        return embedded_engine(compiled)
    return OpaEngine(settings.opa_url, revision=compiled.revision)


def _authzen_policy(settings: Settings) -> AuthzenPolicy | None:
    """ConfigError where it is no policy, or where the embedded engine has no answer by it."""
    if settings.authzen_policy is None:
        return None
    policy = authzen_policy_at(settings.authzen_policy)
    if settings.engine == "embedded":
        try:
            Rules(policy, _rule_engine(settings, policy)).served_revision(deadline=inf)
        except EngineMisbehaved as error:
            raise ConfigError(f"it must decide about every input, even about {{}}: {error.detail}") from error
    return policy


def _rule_engine(settings: Settings, policy: AuthzenPolicy) -> OpaEngine | EmbeddedEngine:
    if settings.engine == "embedded":
        return embedded_engine(policy, rules=tuple(policy.rules.values()))
    return OpaEngine(settings.opa_url, revision=policy.revision)
