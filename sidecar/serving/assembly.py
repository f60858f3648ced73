"""What a worker is made of, built once after the fork: the one place that joins the parts."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.metadata import version
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.policy import PolicyDomain, Rules
from sidecar.api.authzen.workspaces import Workspaces
from sidecar.api.masking import Masks
from sidecar.api.service import Readiness, Service, Stripe
from sidecar.catalog.routes import Routes
from sidecar.console.console import Console, Doors
from sidecar.console.engines import Engines
from sidecar.console.sold import Sold
from sidecar.console.sources import Sources
from sidecar.decisions.authorizer import Authorizer
from sidecar.engines.asked import OnThreads
from sidecar.engines.breaker import Breaker
from sidecar.engines.installed import engine_of
from sidecar.engines.kept import keep, kept_at
from sidecar.engines.memo import MemoisedEngine
from sidecar.errors import DependencyError, RevisionMismatch
from sidecar.identity.callers import ANYBODY
from sidecar.quota.decider import Decider
from sidecar.quota.spending import Spending
from sidecar.rego.authzen import DECISION
from sidecar.serving.anchoring import Anchoring
from sidecar.serving.application import Application
from sidecar.serving.causes import Cause, cause_of
from sidecar.serving.credentials import Credentials
from sidecar.serving.driver import Driver
from sidecar.serving.fit import CatalogFit
from sidecar.serving.loaded import GRPC
from sidecar.serving.plain_questions import PlainQuestions
from sidecar.serving.readiness import Probe, State, Watch
from sidecar.serving.said import Said
from sidecar.serving.threads import Threads
from sidecar.serving.wanted import wanted_in
from sidecar.store.anchors import LogAnchors
from sidecar.store.clock import Clock
from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.connections import Connections
from sidecar.store.ledger import PostgresLedger
from sidecar.store.names import Names
from sidecar.store.people import PostgresPeople
from sidecar.store.postgres import PostgresFacts
from sidecar.store.replicated import ReplicatedFacts
from sidecar.store.workspaces import WorkspaceStore
from sidecar.telemetry.decision_log import DecisionLog
from sidecar.telemetry.figures import Moment
from sidecar.telemetry.log_folder import LogFolder
from sidecar.telemetry.measured import MeasuredEngine, MeasuredFacts, MeasuredRules, timed, timing
from sidecar.telemetry.measured_ledger import MeasuredLedger
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.output import STDOUT, Output
from sidecar.telemetry.printed import Printed
from sidecar.workspaces.administration import Administration
from sidecar.workspaces.invitations import Invitations
from sidecar.workspaces.people import People

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable
    from pathlib import Path

    from sidecar.api.authzen.domain import Domain
    from sidecar.decisions.ports import FactStore
    from sidecar.engines.embedded import EmbeddedEngine
    from sidecar.engines.opa import OpaEngine
    from sidecar.serving.grpc import EnvoyServer
    from sidecar.serving.loaded import Loaded
    from sidecar.settings import Settings
    from sidecar.telemetry.writing import Sink
    from sidecar.workspaces.ports import PeopleStore

_log = logging.getLogger("sidecar")

_LEARNT_WITHIN_S = 30.0
_ANSWERED_WITHIN_S = 1.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.05, 1.0
_FIT_WITHIN_S = 5.0  # a reload is in no hurry: the generation before serves meanwhile
_OUTCOME_WITHIN_S = 5.0  # of a change whose commit waits for replicas
_LEDGER_CONNECTIONS = 4  # one for groups of consumes, the others may wait for a lock
_DRAINING = {
    "ready": False,
    "code": "draining",
    "why": "it is stopping, and answers until then: ask another instance",
}
_STARTING = Cause(code="starting", do="wait: it learns every verdict first", detail="")
_ANY = "of this server"  # whichever engine it is: all workers of a server have the same


class Parts:
    """Of one worker. *newest_bundle* gives the newest generation's, for OPA to move on to.

    In *folder* the workers of a server share what they have counted, learnt and said. *is_draining*: the
    server was told to stop, and answers on for a while. *console_secret* signs the console's cookies where
    no file has a secret; *once* is as in its Doors, and only `sidecar dev` has it.
    """

    def __init__(
        self,
        settings: Settings,
        loaded: Loaded,
        *,
        folder: Path | None = None,
        newest_bundle: Callable[[], bytes] | None = None,
        is_draining: Callable[[], bool] = lambda: False,
        console_secret: bytes = b"",
        once: Path | None = None,
    ) -> None:
        compiled = loaded.compiled
        self._metrics = Metrics(
            engine=settings.engine, revision=compiled.revision, folder=folder and folder / "metrics"
        )
        self._revision = compiled.revision
        self._engine = engine_of(settings.engine, compiled, opa_url=settings.opa_url)
        asked = _with_deadlines(self._engine)
        self._memo = MemoisedEngine(
            MeasuredEngine(asked, metrics=self._metrics),
            cells=loaded.cells,
            known=loaded.known.items(),
            observe=self._metrics.observe_memo,
        )
        self._is_draining = is_draining
        self._folder = folder
        self._shared = folder and folder / "verdicts"
        self._clock = clock = Clock(count=self._metrics.count_clock_refusal)
        names = Names(compiled.revision)
        options = ConnectionOptions(
            max_age_s=settings.database_connection_max_age, pooler=settings.database_pooler
        )
        self._store = PostgresFacts(
            settings.database_url,
            catalog=compiled.catalog,
            pool_size=settings.threads,
            lock_timeout_s=settings.deadline_s / 2,
            options=options,
            observe=self._metrics.observe_pool,
            clock=clock,
            names=names,
        )
        self._for_ledger = Connections(
            settings.database_url,
            size=_LEDGER_CONNECTIONS,
            statement_timeout_s=1.0,
            lock_timeout_s=settings.deadline_s / 2,
            cancels=bool(settings.facts_urls),
            options=options,
            observe=self._metrics.observe_pool,
        )
        said = Said(folder)
        self._replicated = self._replicated_facts(settings, options, said) if settings.facts_urls else None
        self._fit = CatalogFit(self._store, compiled.catalog)
        self._workspaces = WorkspaceStore(
            settings.database_url,
            options=options,
            names=names,
            patience_s=_OUTCOME_WITHIN_S if settings.facts_urls else 0.0,
        )
        self._log = DecisionLog(
            partial(_sink, settings.log_dir, printed=once is not None),
            begins_with={
                "version": version("policy-sidecar"),
                "revision": compiled.revision,
                "catalog": loaded.catalog,
                "engine": settings.engine,
            },
            sync=settings.log_sync,
            on_drop=self._metrics.count_dropped_lines,
        )
        self._anchoring = Anchoring(
            self._log,
            LogAnchors(self._workspaces.connections),
            observe=self._metrics.observe_anchor_age,
        )
        self._anchors: Task[None] | None = None
        self._warm = Event()
        self._stopping = Event()
        self._itself = State(since=datetime.now(UTC), cause=_STARTING, revision=compiled.revision)
        self._loaded = loaded
        self._newest_bundle = newest_bundle or (lambda: loaded.bundle)
        self._settings = settings
        self._grpc: EnvoyServer | None = None
        self._grpc_ended: Task[None] | None = None
        facts = MeasuredFacts(self._store, metrics=self._metrics)
        for_checks = self._replicated or self._store
        self.read_facts = timing(for_checks.facts, self._metrics.observe_facts)
        read_plainly = timing(for_checks.plain_facts, self._metrics.observe_facts)
        authorizer = Authorizer(
            catalog=compiled.catalog,
            context_fields=compiled.context_fields,
            policy=self._memo,
            facts=facts,
            recall=self._memo.recall,
            checked_by=self.read_facts,
            plainly_by=read_plainly,
        )
        self._ledger = PostgresLedger(self._for_ledger, catalog=compiled.catalog, names=names, clock=clock)
        ledger = MeasuredLedger(self._ledger, metrics=self._metrics)
        spending = Spending(authorizer, ledger=ledger)
        # What the loop can call without a thread, each with how.
        self._starts: dict[Callable[..., object], Callable[..., None]] = {
            facts.facts: timed(self._store.ask, self._metrics.observe_facts),
            self.read_facts: timed(for_checks.ask, self._metrics.observe_facts),
            read_plainly: timed(for_checks.ask_plain_facts, self._metrics.observe_facts),
            facts.to_come: timed(self._store.ask_to_come, self._metrics.observe_facts),
            ledger.charge: ledger.timed(self._ledger.ask),
            ledger.find_replay: ledger.timed(self._ledger.ask_replay),
            self._log.await_written: self._log.ask_written,
        }
        domain: Domain = Workspaces(authorizer, metrics=self._metrics)
        self._rules: Rules | None = None
        if loaded.authzen is not None:
            rule_engine = engine_of(
                settings.engine,
                loaded.authzen,
                opa_url=settings.opa_url,
                rules=tuple(loaded.authzen.rules.values()),
            )
            measured = MeasuredRules(_with_deadlines(rule_engine), metrics=self._metrics)
            self._rules = Rules(loaded.authzen, measured)
            domain = PolicyDomain(self._rules, metrics=self._metrics)
        self._probe = self._probe_of(asked, said=said)
        people = PostgresPeople(
            reads=self._store.connections, changes=self._workspaces.connections, names=names
        )
        self.application = Application(
            Service(
                authorizer=authorizer,
                spending=spending,
                decider=Decider(authorizer, spending),
                people=People(authorizer, store=people),
                invitations=Invitations(authorizer, store=people),
                routes=Routes(compiled.catalog.routes),
                administration=Administration(compiled.catalog, store=self._workspaces),
                callers=loaded.callers,
                identities=loaded.identities,
                metrics=self._metrics,
                log=self._log,
                authzen=Authzen(
                    domain=domain,
                    url=settings.authzen_url,
                    anybody=ANYBODY if settings.authzen_anonymous else None,
                ),
                own_hosts=settings.own_hosts,
                deadline_s=settings.deadline_s,
                bundle=self._newest_bundle,
                readiness=self._readiness,
                status=self._probe.status,
                serving=self._warm.is_set,
                catalog=loaded.catalog.encode(),
                masks=Masks(settings.log_mask, key=loaded.mask_key) if settings.log_mask else None,
                skips_grants="check-grants" in settings.log_skip,
                cors_origins=settings.cors_origins,
                stripe=loaded.require_signed
                and Stripe(require_signed=loaded.require_signed, livemode=settings.stripe_livemode),
            ),
            console=self._console_of(facts, people, secret=console_secret, once=once),
            is_dev=once is not None,
        )

        self._credentials = Credentials(settings, self.application.service, shared=folder)

    def _console_of(
        self, facts: FactStore, people: PeopleStore, *, secret: bytes, once: Path | None
    ) -> Callable[[Service], Console] | None:
        """What makes the console; None where there is none."""
        settings, loaded, compiled = self._settings, self._loaded, self._loaded.compiled
        if not settings.console:
            return None
        engines = Engines(settings.engine, opa_url=settings.opa_url, revision=compiled.revision)
        doors = Doors(secret=loaded.console_secret or secret, url=settings.console_url, once=once)

        def made(service: Service) -> Console:
            sources = Sources(
                service=service,
                compiled=compiled,
                facts=facts,
                people=people,
                engines=engines,
                sold=Sold(compiled, engines, plans=settings.plans, text=loaded.plans_text),
                plans_text=loaded.plans_text,
                audit_url=settings.audit_url,
                log_dir=settings.log_dir,
            )
            return Console(sources, doors)

        return made

    def open(self, loop: AbstractEventLoop) -> None:
        """After the fork: connections and threads do not survive one. *loop* drives the connections."""
        self._loop = loop
        self.threads = Threads(self._settings.threads, loop=loop)
        self.driver = Driver(loop=loop, threads=self.threads, starts=self._starts)
        self.plain_questions = PlainQuestions(
            self.application.plain,
            store=self._replicated or self._store,
            service=self.application.service,
            loop=loop,
        )
        self._log.start(loop)
        self._store.open(loop)
        if self._replicated is not None:
            self._replicated.open(loop)
        self._for_ledger.open(loop)
        self._workspaces.open(loop)

    def start(self) -> None:
        self._credentials.start()
        if self._loaded.identities is not None:
            self._loaded.identities.compare_with(self._clock)
            self._loaded.identities.start()
        Thread(target=self._warm_up, name="warm-up", daemon=True).start()
        self._probe.start()

    async def listen(self) -> None:
        """Where the sidecar speaks gRPC; what speaks HTTP is gunicorn's. On the loop, while it runs."""
        self._anchors = self._loop.create_task(self._anchoring.run())
        if self._settings.grpc_bind:
            self._grpc = import_module(GRPC).EnvoyServer(
                self.application.service, self._settings.grpc_bind, driver=self.driver
            )
            await self._grpc.start()

    def listen_no_more(self) -> None:
        if self._grpc is not None and self._grpc_ended is None:
            self._grpc_ended = self._loop.create_task(self._grpc.end(grace_s=self._settings.grace_s))

    def has_ended(self) -> bool:
        """Whether all that was asked by gRPC is answered."""
        return self._grpc_ended is None or self._grpc_ended.done()

    async def cut_off(self) -> None:
        """End what was asked by gRPC and is not answered yet: the grace is over."""
        if self._grpc is not None:
            await self._grpc.end(grace_s=0)

    async def end_log(self) -> None:
        """On the loop, when all is answered: write the rest of the log, and anchor its end."""
        if self._anchors is not None:
            self._anchors.cancel()
        await self._loop.run_in_executor(None, self._log.stop)
        await self._anchoring.end()

    def stop(self) -> None:
        self._stopping.set()
        self._credentials.stop()
        self._probe.stop()
        if self._replicated is not None:
            self._replicated.close()
        self._store.close()
        self._ledger.close()
        self._for_ledger.close()
        self._workspaces.close()
        self._log.stop()
        self.publish()

    def publish(self) -> None:
        """Once a second: let a scrape of another worker have what this one has counted."""
        self._metrics.publish()

    def show(self, *, in_flight: int, connections: int) -> None:
        """Once a second, on the loop: what this worker is at the moment."""
        pools = {
            "facts": self._store.connections,
            "ledger": self._for_ledger,
            "workspaces": self._workspaces.connections,
        }
        replicas = self._replicated.replicas if self._replicated is not None else ()
        pools |= {f"replica {replica.number}": replica.connections for replica in replicas}
        self._metrics.figures.show(
            Moment(
                in_flight=in_flight + (self._grpc.in_progress if self._grpc is not None else 0),
                connections=connections,
                pools={name: (*pool.used, pool.size) for name, pool in pools.items()},
                log_bytes=self._log.waiting_bytes,
                log_age_s=self._log.waiting_s,
                clock_skew_s=self._clock.skew_s,
                replicas={str(replica.number): (replica.is_used, replica.lag_s) for replica in replicas},
                verdicts=len(self._memo),
            )
        )

    def why_unfit(self) -> str | None:
        """Why this generation must not take over from the one before: the database does not fit it."""
        return self._fit.why_not(deadline=monotonic() + _FIT_WITHIN_S)

    def wait_until_begun(self, timeout_s: float) -> bool:
        """Whether it knows every verdict, and has asked the database once."""
        return self._warm.wait(timeout_s) and self._probe.wait_until_looked(timeout_s)

    def _warm_up(self) -> None:
        """Learn what is not known yet, however long it takes until the engine answers by our revision."""
        retry_s = _FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                self._learn()
            except DependencyError as error:
                cause = cause_of(error)
                if self._itself.cause is None or self._itself.cause.code != cause.code:
                    _log.warning("not ready: %s (%s)", error.detail, error.code)
                    self._itself = State(since=datetime.now(UTC), cause=cause, revision=self._revision)
                self._stopping.wait(retry_s)
                retry_s = min(retry_s * 2, _LAST_RETRY_S)
            else:
                # Before the first question. While the database is silent, the probe tries again.
                with suppress(DependencyError):
                    self._store.compare_clocks(deadline=monotonic() + _ANSWERED_WITHIN_S)
                self._itself = State(since=datetime.now(UTC), revision=self._revision)
                self._warm.set()
                _log.info("ready: revision %s, %d verdicts known", self._revision, len(self._memo))
                return

    def _learn(self) -> None:
        """What one worker has learnt the others take from a file, those to come included."""
        if self._memo.unknown and self._shared is not None:
            self._memo.know(kept_at(self._shared, engine=_ANY, revision=self._revision).items())
        if unknown := self._memo.unknown:
            deadline = monotonic() + _LEARNT_WITHIN_S
            self._memo.know(self._engine.verdicts(unknown, deadline=deadline))
            if self._shared is not None:
                keep(self._shared, self._memo.known, engine=_ANY, revision=self._revision)
        if (rules := self._rules) is not None:
            # A worker that replaces another must serve though OPA is away: what one has found is found.
            found = self._folder and self._folder / f"found-{rules.revision}"
            if found is None or not found.exists():
                rules.answer(DECISION, b"{}", deadline=monotonic() + _ANSWERED_WITHIN_S)
                if found is not None:
                    with suppress(OSError):
                        found.touch()

    def _readiness(self) -> Readiness:
        found = self._probe.readiness()
        if not self._is_draining():
            return found
        return Readiness(ready=False, without_database=False, parts={**found.parts, "worker": _DRAINING})

    def _replicated_facts(
        self, settings: Settings, options: ConnectionOptions, said: Said
    ) -> ReplicatedFacts:
        return ReplicatedFacts(
            self._store,
            settings.database_url,
            settings.facts_urls,
            most_lag_s=settings.facts_max_lag_ms / 1000,
            clock=self._clock,
            revision=self._revision,
            options=options,
            replica_options=replace(options, target_session_attrs="any"),
            observe=self._metrics.count_facts_read,
            is_new=said.is_new,
        )

    def _probe_of(self, asked: Breaker | OnThreads, *, said: Said) -> Probe:
        rules = self._rules
        return Probe(
            lambda: self._itself,
            database=Watch(
                "database",
                self._published_revision,
                wanted=self._revision,
                differs=partial(_database_differs, wanted=self._revision),
                said=said,
            ),
            engine=Watch(
                "policy engine",
                lambda deadline: asked.served_revision(deadline=deadline),
                wanted=self._revision,
                differs=partial(_engine_differs, wanted=self._revision),
                said=said,
            ),
            authzen=None
            if rules is None
            else Watch(
                "AuthZEN policy",
                lambda deadline: rules.served_revision(deadline=deadline),
                wanted=rules.revision,
                differs=partial(_engine_differs, wanted=rules.revision),
                said=said,
            ),
            kind=self._settings.engine,
            fitted=lambda: self._fit.fits,
            wanted=lambda: None if self._folder is None else wanted_in(self._folder),
            observe=self._metrics.observe_converged,
        )

    def _published_revision(self, deadline: float) -> str | None:
        self._fit.require(deadline=deadline)
        self._store.require_writable(deadline=deadline)
        self._store.compare_clocks(deadline=deadline)
        return self._store.revision(deadline=deadline)


def _database_differs(found: str | None, *, wanted: str) -> Cause:
    return Cause(
        code=RevisionMismatch.code,
        do="run `sidecar migrate` with this server's files, or, if they are the older ones, replace them and"
        " send SIGHUP",
        detail=f"its catalog is {found}, this worker decides by {wanted}",
    )


def _engine_differs(found: str | None, *, wanted: str) -> Cause:
    return cause_of(RevisionMismatch(f"it has revision {found}, this worker decides by {wanted}"))


def _sink(folder: Path | None, writer: str, *, printed: bool) -> Sink:
    """*printed*: on standard output all the same."""
    if folder is None:
        return Output(STDOUT)
    return Printed(LogFolder(folder, writer=writer)) if printed else LogFolder(folder, writer=writer)


def _with_deadlines(engine: OpaEngine | EmbeddedEngine) -> Breaker | OnThreads:
    """*engine*, so that no question waits for it beyond its deadline. One that is a server may be silent."""
    on_threads = OnThreads(engine)
    return on_threads if engine.name == "embedded" else Breaker(on_threads)
