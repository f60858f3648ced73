"""Whatever breaks between processes or in them: nobody is told what is not so, and it ends soon after.

`CHAOS_S` is how many seconds each fault lasts, `CHAOS_TABLE` a file for the table of what was measured.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.bundle import bundle
from tests.chaos.faults import FAULTS, USUAL
from tests.chaos.measured import assert_harmless
from tests.chaos.parts import Again, Connected, with_the_demo_world
from tests.chaos.toxiproxy import toxiproxy
from tests.postgres_server import a_server_folder
from tests.servers import free_port, opa_process
from tests.serving.serving import policies_that_read_ip, serving
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.postgres, pytest.mark.opa, pytest.mark.slow, pytest.mark.long]

WORKERS = 2


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Connected]:
    """The whole product with a proxy between every two, and a superuser's URL past all of them."""
    folder: Path = tmp_path_factory.mktemp("chaos")
    policies = policies_that_read_ip(folder / "policies")
    with ExitStack() as stack:
        proxy = stack.enter_context(toxiproxy())
        server_folder = stack.enter_context(a_server_folder())
        server = stack.enter_context(Again(lambda: EmbeddedPostgres(server_folder)))
        compiled = with_the_demo_world(server.it.url, policies)
        by_tcp = stack.enter_context(Proxy(server.it.url))  # toxiproxy knows no Unix sockets
        opa_port, port = free_port(), free_port()
        opa = stack.enter_context(Again(lambda: opa_process(bundle(compiled), port=opa_port)))
        to_postgres = proxy.between("postgres", f"127.0.0.1:{by_tcp.port}")
        to_opa = proxy.between("opa", f"127.0.0.1:{opa_port}")
        sidecar = stack.enter_context(
            Again(
                lambda: serving(
                    folder, port=port, workers=WORKERS, engine="opa", policies=policies,
                    opa_url=f"http://127.0.0.1:{to_opa.port}",
                    database_url=by_tcp.url.replace(f":{by_tcp.port}", f":{to_postgres.port}"),
                )
            )
        )  # fmt: skip
        assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
        front = proxy.between("sidecar", f"127.0.0.1:{port}")
        yield Connected(
            port=front.port,
            database=lambda: server.it.url,
            sidecar=sidecar,
            links={"postgres": to_postgres, "opa": to_opa, "sidecar": front},
            postgres=server,
            by_tcp=by_tcp,
            opa=opa,
        )


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=[] if each in USUAL else pytest.mark.long) for each in FAULTS]
)
def test_a_fault_makes_no_answer_wrong_and_is_over_soon_after_it_ends(world, table, name):
    assert_harmless(world, name, FAULTS[name], table)
