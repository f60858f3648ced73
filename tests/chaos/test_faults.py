"""Whatever breaks, nobody is told what is not so, nothing is taken twice, and it ends soon after.

`CHAOS_S` is how many seconds each fault lasts, `CHAOS_TABLE` a file for the table of what was measured.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.world import load
from tests.chaos.asked import Clients
from tests.chaos.faults import FAULTS, Broken
from tests.chaos.toxiproxy import toxiproxy
from tests.postgres_server import DEMO_WORLD, a_server_folder
from tests.servers import opa_process
from tests.serving.processes import children_of, resident_kib
from tests.serving.serving import policies_that_read_ip, serving
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.postgres, pytest.mark.opa, pytest.mark.slow, pytest.mark.long]

LASTS_S = float(os.environ.get("CHAOS_S", "1"))
TABLE = os.environ.get("CHAOS_TABLE")
RECOVERS_WITHIN_S = 30
LIMIT = 10**9
MAY_GROW_KIB = 24 * 1024
WORKERS = 2


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broken, str]]:
    """The whole product with a proxy between every two, and a superuser's URL past all of them."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    policies = policies_that_read_ip(folder / "policies")
    compiled = compiled_at(shipped("plans.yaml"), policies)
    with ExitStack() as stack:
        proxy = stack.enter_context(toxiproxy())
        server = stack.enter_context(EmbeddedPostgres(stack.enter_context(a_server_folder())))
        migrate(server.url, catalog=compiled.catalog, revision=compiled.revision)
        load(server.url, DEMO_WORLD)
        by_tcp = stack.enter_context(Proxy(server.url))  # toxiproxy knows no Unix sockets
        opa_url, opa_pid = stack.enter_context(opa_process(bundle(compiled)))
        postgres = proxy.between("postgres", f"127.0.0.1:{by_tcp.port}")
        opa = proxy.between("opa", opa_url.removeprefix("http://"))
        sidecar = stack.enter_context(
            serving(
                folder, workers=WORKERS, engine="opa", policies=policies, opa_url=f"http://127.0.0.1:{opa.port}",
                database_url=by_tcp.url.replace(f":{by_tcp.port}", f":{postgres.port}"),
            )
        )  # fmt: skip
        assert sidecar.until(sidecar.is_ready), sidecar.said
        front = proxy.between("sidecar", f"127.0.0.1:{sidecar.port}")
        yield (
            Broken(
                links={"postgres": postgres, "opa": opa, "sidecar": front},
                postgres=lambda: server.process_id,
                opa=opa_pid,
                sidecar=sidecar,
            ),
            server.url,
        )


@pytest.fixture(scope="module")
def table() -> Iterator[list[str]]:
    measured: list[str] = []
    yield measured
    if TABLE:
        Path(TABLE).write_text(HEAD.format(seconds=f"{LASTS_S:g}") + "\n".join(measured) + "\n")


HEAD = """# Faults, and what came of them

`make chaos` has written this page: each fault lasted {seconds} s, on one machine, with six clients who ask
all the time. *Wrong* are answers that the database does not mean: an allow, a denial in place of an outage, a
minute that was taken twice, lost or oversold. *Recovery* is from the end of the fault to the last outage that
a client was told.

| fault | answered | outages | wrong | recovery |
|---|---:|---:|---:|---:|
"""


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_makes_no_answer_wrong_and_is_over_soon_after_it_ends(broken, table, name):
    parts, database_url = broken
    workers = sorted(children_of(parts.sidecar.process.pid))
    before = {pid: resident_kib(pid) for pid in workers}
    clients = Clients(parts.links["sidecar"].port, database_url, limit=LIMIT)
    with clients:
        sleep(0.3)
        with FAULTS[name](parts):
            ends = monotonic() + LASTS_S
            while monotonic() < ends:
                if "PostgreSQL" in name and "SIGSTOP" in name:
                    sleep(0.1)  # SQL of ours would wait too
                else:
                    clients.remove_and_put_back()
        ended = monotonic()
        recovery = clients.recovery_s(since=ended, within_s=RECOVERS_WITHIN_S)
        clients.remove_and_put_back()
    clients.settle()
    told = clients.told
    outages = sum(told.heard.values()) - told.heard["answered"]
    table.append(f"| {name} | {told.heard['answered']} | {outages} | {len(told.wrong)} | {recovery:.1f} s |")
    sys.stderr.write(f"{table[-1]} {dict(told.heard)}\n")

    assert told.wrong == []
    assert recovery < RECOVERS_WITHIN_S
    assert told.heard["answered"] > 0
    grown = {pid: resident_kib(pid) - before[pid] for pid in workers if Path(f"/proc/{pid}/status").exists()}
    assert max(grown.values(), default=0) < MAY_GROW_KIB
