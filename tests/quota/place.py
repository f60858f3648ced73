"""A place to spend quota in: the core on a real database, with the real policies and a meter of each kind."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import psycopg

from sidecar.decisions.authorizer import Authorizer
from sidecar.decisions.model import Question
from sidecar.decisions.steps import run
from sidecar.quota.decider import Decider
from sidecar.quota.spending import Spending
from sidecar.store.connection_options import DEFAULT_OPTIONS
from sidecar.store.connections import Connections
from sidecar.store.ledger import PostgresLedger
from sidecar.store.postgres import PostgresFacts

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.ports import PolicyEngine
    from sidecar.store.clock import Clock
    from sidecar.store.connection_options import ConnectionOptions

PLANS = Path(__file__).with_name("plans.yaml")
LEDGER_CONNECTIONS = 4
PATIENCE_S = 60  # of a busy machine
ALL_MISCOUNTS = "SELECT w.slug, m.* FROM authz.workspaces AS w CROSS JOIN LATERAL authz.miscounts(w.id) AS m"
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    catalog: Catalog
    policy: PolicyEngine
    revision: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    id: UUID
    slug: str


class Place:
    def __init__(
        self,
        url: str,
        rules: Rules,
        *,
        connections: int = 64,
        lock_timeout_s: float = 30,
        clock: Clock | None = None,
        through: str | None = None,
        options: ConnectionOptions = DEFAULT_OPTIONS,
    ) -> None:
        """*through* is another URL that leads to the same database, for all but `sql`."""
        self.url = url
        asked = through or url
        self.catalog = rules.catalog
        self.facts = PostgresFacts(
            asked,
            catalog=rules.catalog,
            pool_size=connections,
            statement_timeout_s=60,
            lock_timeout_s=lock_timeout_s,
            clock=clock,
            options=options,
        )
        self.facts.open()
        self._as_superuser = psycopg.connect(url, autocommit=True)
        self.for_ledger = Connections(
            asked,
            size=min(connections, LEDGER_CONNECTIONS),
            statement_timeout_s=60,
            lock_timeout_s=lock_timeout_s,
            options=options,
        )
        self.for_ledger.open()
        self.ledger = PostgresLedger(self.for_ledger, catalog=rules.catalog, clock=clock)
        self.authorizer = Authorizer(
            catalog=rules.catalog,
            context_fields=frozenset(),
            policy=rules.policy,
            facts=self.facts,
        )
        self.spending = Spending(self.authorizer, ledger=self.ledger)
        self.decider = Decider(self.authorizer, self.spending)

    def close(self) -> None:
        self.facts.close()
        self.ledger.close()
        self.for_ledger.close()
        self._as_superuser.close()

    def sql(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """As a superuser: what it answers, or nothing."""
        cursor = self._as_superuser.execute(query.encode(), params or None)
        return cursor.fetchall() if cursor.description is not None else []

    def workspace(self, plan: str = "small", *, subscribed: str = "now()", **members: str) -> Workspace:
        """A new one; `mia` is a member of it unless others are named. *subscribed* is an SQL expression."""
        slug = f"w{next(_numbers)}"
        [(id_,)] = self.sql(
            f"""INSERT INTO authz.workspaces (slug, name, plan_tier, subscribed_at)
            VALUES (%s, 'W', %s, {subscribed}) RETURNING id""",
            slug,
            plan,
        )
        for user, role in (members or {"mia": "member"}).items():
            self.sql("INSERT INTO authz.workspace_memberships VALUES (%s, %s, %s)", id_, user, role)
        return Workspace(id=id_, slug=slug)

    def ask(self, action: str, at: Workspace, mode: str = "consume", **more: Any) -> Any:
        question = Question(**{"user": "mia", "workspace": at.slug, "action": action, "mode": mode, **more})
        return run(self.decider.deciding(question, deadline=monotonic() + PATIENCE_S))

    def commit(self, reservation: str, amounts: dict[str, int] | None = None) -> Any:
        return self.spending.commit(reservation, amounts, deadline=monotonic() + PATIENCE_S)

    def release(self, reservation: str) -> Any:
        return self.spending.release(reservation, deadline=monotonic() + PATIENCE_S)

    def refund(self, at: Workspace, key: str, amounts: dict[str, int] | None = None) -> Any:
        return self.spending.refund(at.slug, key, amounts, deadline=monotonic() + PATIENCE_S)

    def give_back(self, at: Workspace, meter: str, resource: str) -> Any:
        return self.spending.release_resource(at.slug, meter, resource, deadline=monotonic() + PATIENCE_S)

    def set_plan(self, at: Workspace, plan: str) -> None:
        self.sql("SELECT authz.set_plan(%s, %s)", at.slug, plan)

    def used(self, at: Workspace, meter: str) -> int:
        """What the counter says of its last period."""
        found = self.sql(
            "SELECT used FROM authz.workspace_usage WHERE workspace_id = %s AND meter = %s",
            at.id,
            meter,
        )
        return int(found[0][0]) if found else 0

    def ledger_of(self, at: Workspace) -> list[tuple[Any, ...]]:
        return self.sql(
            "SELECT meter, amount, kind FROM authz.usage_ledger WHERE workspace_id = %s ORDER BY id",
            at.id,
        )

    def usage(self, at: Workspace, meter: str, *, user: str = "mia") -> Any:
        """What a question would be told now."""
        [facts] = self.facts.facts([(user, at.slug)], deadline=monotonic() + PATIENCE_S)
        return facts.usage[meter] if facts else None

    def expire(self, reservation: str) -> None:
        for table, name in (("usage_reservations", "id"), ("usage_holds", "reservation")):
            self.sql(
                f"UPDATE authz.{table} SET expires_at = clock_timestamp() WHERE {name} = %s",
                reservation,
            )

    def somebody_waits_for_a_lock(self) -> bool:
        query = (
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return self.sql(query) != []

    def miscounts(self) -> list[tuple[Any, ...]]:
        return self.sql(ALL_MISCOUNTS)


def until(holds: Callable[[], Any]) -> Any:
    """What *holds* answers once it is true."""
    ending = monotonic() + 30
    while not (found := holds()):
        assert monotonic() < ending
        sleep(0.01)
    return found


def at_once(many: int, act: Callable[[int], Any]) -> list[Any]:
    """*act* of 0, 1, …, each in a thread of its own and all together; what each answered, or raised."""
    gate = threading.Barrier(many)

    def one(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(many) as pool:
        futures = [pool.submit(one, number) for number in range(many)]
        return [future.exception() or future.result() for future in futures]


def while_others(many: int, act: Callable[[], Any], meanwhile: Callable[[], Any]) -> list[Any]:
    """*act*, once, while *many* do *meanwhile* all the time. What it answered, and what each heard last."""
    over = threading.Event()

    def one(number: int) -> Any:
        if number == 0:
            try:
                return act()
            finally:
                over.set()
        heard = None
        while not over.is_set():
            heard = meanwhile()
        return heard

    return at_once(1 + many, one)


def together(*acts: Callable[[], Any]) -> list[Any]:
    """As at_once, of different acts."""
    return at_once(len(acts), lambda number: acts[number]())
