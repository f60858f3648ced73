"""Whatever breaks on the way to the database: nobody is told what is not so, and it ends soon after."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from sidecar.local.postgres import EmbeddedPostgres
from tests.chaos.measured import assert_harmless
from tests.chaos.parts import Again, a_sidecar, with_the_demo_world
from tests.chaos.ways import OF_A_PAIR, OF_A_POOLER, Paired, Pooled
from tests.postgres_server import a_server_folder, run
from tests.servers import free_port
from tests.serving.names import a_name_server, asking_it
from tests.serving.serving import policies_that_read_ip
from tests.store.pgbouncer import a_pgbouncer
from tests.store.proxy import Proxy
from tests.store.standby import a_pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

POOLED = (
    "CREATE ROLE pooled LOGIN IN ROLE authz_sidecar",
    "ALTER ROLE pooled SET role = 'authz_sidecar'",
    "ALTER ROLE pooled SET statement_timeout = '5s'",
    "ALTER ROLE pooled SET lock_timeout = '1s'",
)
SYNCHRONOUS = ("ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")


@pytest.mark.parametrize("name", OF_A_PAIR)
def test_a_failover_makes_no_answer_wrong_and_the_new_primary_is_found(tmp_path, table, name):
    policies = policies_that_read_ip(tmp_path / "policies")
    moved: list[bool] = []
    with ExitStack() as stack:
        names = stack.enter_context(a_name_server(place="127.0.0.55", db="127.0.0.2"))
        pair = stack.enter_context(a_pair())
        with_the_demo_world(pair.primary, policies)
        run(pair.primary, *SYNCHRONOUS)
        first = stack.enter_context(Proxy(pair.primary, host="127.0.0.2"))
        second = stack.enter_context(Proxy(pair.standby, host="127.0.0.3", port=first.port))
        url = first.url.replace("@127.0.0.2", "@db.example")
        sidecar = stack.enter_context(
            a_sidecar(tmp_path, database_url=url, before=asking_it(tmp_path, names))
        )
        assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
        world = Paired(
            port=sidecar.it.port,
            database=lambda: pair.standby if moved else pair.primary,
            sidecar=sidecar,
            pair=pair,
            names=names,
            second=str(urlsplit(second.url).hostname),
            moved=moved,
        )
        assert_harmless(world, name, OF_A_PAIR[name], table)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pooled]:
    folder: Path = tmp_path_factory.mktemp("pooled")
    policies, port = policies_that_read_ip(folder / "policies"), free_port()
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedPostgres(stack.enter_context(a_server_folder())))
        with_the_demo_world(server.url, policies)
        run(server.url, *POOLED)
        pooler = stack.enter_context(
            Again(lambda: a_pgbouncer(server.url, mode="transaction", size=8, port=port))
        )
        sidecar = stack.enter_context(
            a_sidecar(folder, database_url=f"postgresql://pooled{pooler.it}", database_pooler="transaction")
        )
        assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
        yield Pooled(port=sidecar.it.port, database=lambda: server.url, sidecar=sidecar, pooler=pooler)


@pytest.mark.parametrize("name", OF_A_POOLER)
def test_a_pooler_that_restarts_makes_no_answer_wrong(pooled, table, name):
    assert_harmless(pooled, name, OF_A_POOLER[name], table)
