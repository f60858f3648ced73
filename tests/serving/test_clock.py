"""A server whose database gets another time: what callers, the log, the metrics and an operator see."""

from __future__ import annotations

import subprocess
import sys
from time import monotonic

import psycopg
import pytest

from sidecar.identity.callers import SCOPES, token_line
from sidecar.store.migrate import migrate
from tests.quota.moved_clock import let_the_clock_be_moved
from tests.serving.serving import QUESTION, serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

pytest.importorskip("regopy", reason="needs the extra `embedded`")

JUMP_S = 40 * 86_400
FOLLOWS_WITHIN_S = 10
REFUSALS = "sidecar_clock_refusals_total "


def test_a_server_whose_database_has_another_time_refuses_until_somebody_accepts_it(
    fresh_database_url, compiled, tmp_path
):
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    let_the_clock_be_moved(fresh_database_url)

    def move(seconds):
        with psycopg.connect(fresh_database_url, autocommit=True) as connection:
            connection.execute("UPDATE authz.test_clock SET ahead = make_interval(secs => %s)", (seconds,))

    def consume(amount):
        question = QUESTION | {"mode": "consume", "amounts": {"minutes": amount}}
        status, answer = sidecar.request("POST", "/v1/authorize", question)
        return status, answer.get("code") or answer["allow"]

    def refusals():
        text = sidecar.request("GET", "/metrics")[1].decode()
        return float(text.split("\n" + REFUSALS)[1].split("\n")[0])

    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("all", SCOPES, "t") + "\n")
    chosen = {
        "database_url": fresh_database_url,
        "engine": "embedded",
        "deadline_ms": 5_000,
        "tokens": tokens,
    }
    with serving(tmp_path, **chosen) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        assert consume(500) == (200, True)

        move(JUMP_S)
        assert [consume(1) for _ in range(8)] == [(503, "usage_contended")] * 8
        assert sidecar.until(lambda: refusals() == 8, within_s=5)
        move(0)
        assert consume(1) == (200, True)
        assert consume(500) == (200, False)

        move(JUMP_S)
        assert consume(1) == (503, "usage_contended")
        command = [sys.executable, "-m", "sidecar", "clock", "accept", "--database-url", fresh_database_url]
        accepted = subprocess.run(command, capture_output=True, text=True, check=True)
        began = monotonic()
        assert "every worker follows within 10 seconds" in accepted.stdout
        granted = 0
        while granted < 20 and monotonic() < began + FOLLOWS_WITHIN_S:
            granted = granted + 1 if consume(1) == (200, True) else 0  # both workers
        assert granted == 20

    said = [line for line in sidecar.said.splitlines() if "clock is not trusted" in line]
    assert 1 <= len(said) <= 2 * sidecar.workers  # once for each jump that a worker has seen
