"""Half of the load that there could be, for long: hardly an outage, nothing wrong, no memory lost."""

from __future__ import annotations

import os
import sys
from time import monotonic, sleep

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.chaos.asked import CLIENTS, Clients
from tests.chaos.measured import LASTS_S
from tests.serving.processes import children_of, descriptors_of, resident_kib
from tests.serving.serving import policies_that_read_ip, serving

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(
        "CHAOS_TABLE" not in os.environ, reason="`make chaos` has it: a short soak proves nothing"
    ),
]

NAME = "none: half of the load that the clients can make"
AT_FULL_LOAD_S = 5.0
ANSWERS_TO_ONE_LATE = 10_000  # on a machine with other work
MAY_GROW_KIB, MAY_OPEN = 4 * 1024, 8


def test_at_half_load_nothing_grows_and_hardly_anybody_meets_an_outage(tmp_path, fresh_database_url, table):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    policies = policies_that_read_ip(tmp_path / "policies")
    compiled = compiled_at(shipped("plans.yaml"), policies)
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    with serving(
        tmp_path, workers=2, engine="embedded", policies=policies, database_url=fresh_database_url
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready), sidecar.said

        def clients(**more):
            return Clients(sidecar.port, lambda: fresh_database_url, minutes=10**9, **more)

        with clients() as full:
            sleep(AT_FULL_LOAD_S)
        pause_s = CLIENTS * AT_FULL_LOAD_S / full.told.heard["answered"]
        lasts_s = 6 * LASTS_S
        workers = children_of(sidecar.process.pid)
        with clients(pause_s=pause_s) as half:
            sleep(lasts_s / 4)  # until all that is kept once is there
            before = {pid: (resident_kib(pid), descriptors_of(pid)) for pid in workers}
            ending = monotonic() + lasts_s * 3 / 4
            while monotonic() < ending:
                half.remove_and_put_back()
        grown = max(resident_kib(pid) - before[pid][0] for pid in workers)
        assert workers == children_of(sidecar.process.pid)
        opened = max(descriptors_of(pid) - before[pid][1] for pid in workers)
        half.settle()

    told = half.told
    row = table.write(
        NAME, f"{lasts_s:g} s", str(told.heard["answered"]), str(half.outages), str(len(told.wrong)), "",
        f"{grown / 1024:+.1f} MiB",
    )  # fmt: skip
    sys.stderr.write(
        f"{row} {dict(told.heard)} full load: {full.told.heard['answered'] / AT_FULL_LOAD_S:.0f}/s\n"
    )
    assert told.wrong == []
    late = half.outages - told.heard["usage_contended"]  # which is of two at once, and not of the load
    assert late <= told.heard["answered"] / ANSWERS_TO_ONE_LATE
    assert grown < MAY_GROW_KIB
    assert opened <= MAY_OPEN
