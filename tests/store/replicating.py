"""Facts for checks from a real replica, with what was logged and who has answered."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.serving.said import Said
from sidecar.store.clock import Clock
from sidecar.store.connection_options import ConnectionOptions
from sidecar.store.migrate import migrate
from sidecar.store.names import Names
from sidecar.store.postgres import PostgresFacts
from sidecar.store.replicated import ReplicatedFacts
from sidecar.store.world import load
from tests.postgres_server import DEMO_WORLD, run
from tests.store.asking import until
from tests.store.standby import a_pair
from tests.values import the_catalog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.catalog.catalog import Catalog
    from tests.store.standby import Pair

BOUND_S = 0.1
ANY = ConnectionOptions(target_session_attrs="any")
MIA = ("mia", "acme")
REMOVE = (
    "DELETE FROM authz.workspace_memberships AS m USING authz.workspaces AS w"
    " WHERE w.id = m.workspace_id AND w.slug = 'acme' AND m.user_id = 'mia'"
)
ADD = (
    "INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
    " SELECT id, 'mia', 'member' FROM authz.workspaces WHERE slug = 'acme' ON CONFLICT DO NOTHING"
)


@contextmanager
def a_demo_pair() -> Iterator[Pair]:
    with a_pair() as pair:
        migrate(pair.primary, catalog=the_catalog(), revision="dev")
        load(pair.primary, DEMO_WORLD)
        pair.catch_up()
        yield pair


class Reading:
    """Whoever asks here is a check."""

    def __init__(
        self, primary: str, urls: list[str], *, bound_s: float, catalog: Catalog, revision: str | None
    ) -> None:
        self.by: Counter[str] = Counter()
        clock = Clock()
        self.primary = PostgresFacts(
            primary, catalog=catalog, pool_size=4, clock=clock, names=Names(revision)
        )
        self.facts = ReplicatedFacts(
            self.primary,
            primary,
            urls,
            most_lag_s=bound_s,
            clock=clock,
            revision=revision,
            replica_options=ANY,
            observe=lambda who: self.by.update([who]),
            is_new=Said(None).is_new,
        )
        self.facts.open(self.primary.open())

    def close(self) -> None:
        self.facts.close()
        self.primary.close()

    def ask(self, *members: tuple[str, str], within_s: float = 2.0):
        """The facts of each; of one alone, those."""
        deadline = monotonic() + within_s
        found = self.facts.facts(members, [()] * len(members), deadline=deadline)
        return found[0] if len(found) == 1 else found

    def ask_plainly(self, *members: tuple[str, str], within_s: float = 2.0):
        """As questions that take nothing are read: a row for each, and its time."""
        return self.facts.plain_facts(members, deadline=monotonic() + within_s)

    def uses(self, number: int = 1) -> bool:
        """Whether checks can be answered by that replica now."""
        return self.facts.replicas[number - 1].is_used and self.facts._watch.allows_reads(monotonic())  # noqa: SLF001 - what a question would find

    def wait_until_used(self, number: int = 1) -> None:
        assert until(lambda: self.uses(number), within_s=10)

    def wait_until_not_used(self, number: int = 1) -> None:
        assert until(lambda: not self.facts.replicas[number - 1].is_used, within_s=10)


@contextmanager
def reading(
    primary: str,
    *urls: str,
    bound_s: float = BOUND_S,
    catalog: Catalog | None = None,
    revision: str | None = None,
) -> Iterator[Reading]:
    made = Reading(primary, list(urls), bound_s=bound_s, catalog=catalog or the_catalog(), revision=revision)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def replay_paused(pair: Pair) -> Iterator[None]:
    run(pair.standby, "SELECT pg_wal_replay_pause()")
    try:
        sleep(0.02)
        yield
    finally:
        run(pair.standby, "SELECT pg_wal_replay_resume()")


@contextmanager
def waiting_for_the_standby(pair: Pair) -> Iterator[None]:
    """The standby is named: what commits with `remote_apply` waits for it."""
    name_standbys(pair, "*")
    try:
        yield
    finally:
        name_standbys(pair, "")


def name_standbys(pair: Pair, names: str) -> None:
    run(pair.primary, f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()")
