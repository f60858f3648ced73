"""Nothing is oversold and no key takes twice, whatever is lost on either side of the sidecar.

``RACING=1000000`` in the environment has that many consumes race, not some thousands.
"""

from __future__ import annotations

import os
from time import monotonic

import pytest

from tests.effort import tries
from tests.serving.race import Raced, raced
from tests.serving.serving import LANE, serving
from tests.serving.talk import read_by

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

RACING = int(os.environ.get("RACING", tries(6_000, usual=2_000)))
A_BATCH = 50_000
A_SECOND = 100  # attempts, of a machine that is very busy
STARTS_WITHIN_S = 30


def test_consumes_that_race_over_http_sell_no_more_than_there_is_and_nothing_twice(tmp_path, database, opa):
    socket, whole = tmp_path / "socket", Raced()
    with serving(
        tmp_path, also_at=socket, database_url=database, opa_url=opa.url, deadline_ms=5_000
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        began = monotonic()
        while whole.attempts < RACING:
            batch = min(A_BATCH, RACING - whole.attempts)
            within_s = STARTS_WITHIN_S + batch / A_SECOND
            whole += raced(sidecar.port, database, attempts=batch, within_s=within_s)
            assert whole.wrong == []
        took_s = monotonic() - began
        read = read_by(socket)
    print(f"{vars(whole)} in {took_s:.0f} s")  # noqa: T201 - `make soak` shows it

    assert (read["lane"] > read["gunicorn"]) == (LANE == "on")
    assert whole.killed > 0.02 * RACING
    assert whole.terminated > 0
    assert whole.heard["replayed"] > 0.05 * RACING
    assert whole.heard["quota_exceeded"] > 0.1 * RACING
