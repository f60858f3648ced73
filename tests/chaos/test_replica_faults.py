"""Whatever breaks about a replica that checks read: nobody is told what is not so, and checks go on."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.chaos.measured import assert_harmless
from tests.chaos.parts import a_sidecar, with_the_demo_world
from tests.chaos.replicas import FAULTS, Replicated
from tests.postgres_server import run
from tests.serving.serving import policies_that_read_ip
from tests.store.proxy import Proxy
from tests.store.standby import a_pair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.serving.serving import Sidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

# As docs/operations/replicas.md has it where consumes do not wait for the replica.
SYNCHRONOUS = (
    "ALTER SYSTEM SET synchronous_standby_names = '*'",
    "ALTER ROLE postgres SET synchronous_commit = local",
    "SELECT pg_reload_conf()",
)


def reads_the_replica(sidecar: Sidecar) -> bool:
    question = {"user": "adam", "workspace": "acme", "action": "platform.use"}
    return "lag_ms" in sidecar.request("POST", "/v1/authorize", question)[1].get("facts", {})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    folder: Path = tmp_path_factory.mktemp("replicated")
    policies = policies_that_read_ip(folder / "policies")
    with ExitStack() as stack:
        pair = stack.enter_context(a_pair())
        with_the_demo_world(pair.primary, policies)
        run(pair.primary, *SYNCHRONOUS)
        pair.catch_up()
        replica = stack.enter_context(Proxy(pair.standby))
        sidecar = stack.enter_context(a_sidecar(folder, database_url=pair.primary, facts_urls=replica.url))
        assert sidecar.it.until(sidecar.it.is_ready), sidecar.it.said
        yield Replicated(
            port=sidecar.it.port,
            database=lambda: pair.primary,
            sidecar=sidecar,
            pair=pair,
            replica=replica,
        )


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_a_replica_makes_no_answer_wrong_and_it_is_read_again_afterwards(world, table, name):
    sidecar = world.sidecar.it
    assert sidecar.until(lambda: reads_the_replica(sidecar), within_s=20)
    assert_harmless(world, name, FAULTS[name], table)
    assert sidecar.until(lambda: reads_the_replica(sidecar), within_s=20)
