from __future__ import annotations

import signal
from time import monotonic

import pytest

from tests.serving.serving import serving


def test_a_sidecar_that_is_told_to_stop_answers_while_it_is_not_ready(tmp_path, database, opa):
    with serving(tmp_path, database_url=database, opa_url=opa.url, deadline_ms=5_000, drain_s=2) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30)
        began = monotonic()
        sidecar.signal(signal.SIGTERM)

        assert sidecar.until(lambda: sidecar.request("GET", "/readyz")[0] == 503, within_s=1)
        status, said = sidecar.request("GET", "/readyz")
        assert (status, said["worker"]["code"]) == (503, "draining")
        while monotonic() < began + 1.5:
            assert sidecar.ask()[0] == 200
        assert sidecar.process.wait(timeout=15) == 0
        assert monotonic() - began >= 2


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM, signal.SIGINT]])
def test_who_is_in_haste_does_not_wait_for_it(numbers, tmp_path, database, opa):
    with serving(tmp_path, database_url=database, opa_url=opa.url, drain_s=300) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30)
        for number in numbers:
            sidecar.signal(number)
            sidecar.until(lambda: sidecar.request("GET", "/readyz")[0] == 503, within_s=1)
        assert sidecar.process.wait(timeout=15) == 0
