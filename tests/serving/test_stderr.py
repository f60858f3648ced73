"""What a real server writes to standard error as JSON, from its first line to its last."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from tests.serving.serving import serving


def test_every_line_of_master_and_workers_is_one_object(tmp_path, database, opa):
    with serving(
        tmp_path, database_url=database, opa_url=opa.url, deadline_ms=5_000, log_format="json"
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30)
        pid = sidecar.process.pid
        [victim, *_] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        os.kill(int(victim), signal.SIGKILL)
        assert sidecar.until(lambda: "SIGKILL" in sidecar.said, within_s=20)
        sidecar.signal(signal.SIGHUP)
        assert sidecar.until(lambda: "reloaded" in sidecar.said, within_s=40)
        sidecar.signal(signal.SIGTERM)
        sidecar.process.wait(timeout=20)

    lines = [json.loads(line) for line in sidecar.said.splitlines()]
    assert len(lines) >= 5
    assert {tuple(line)[:3] for line in lines} == {("ts", "level", "message")}
    assert {line["logger"] for line in lines} == {"gunicorn.error", "sidecar"}
    assert {line["pid"] for line in lines} > {pid}


def test_a_server_without_settings_says_so_in_json(tmp_path):
    with serving(tmp_path, alive=False, log_format="json") as sidecar:
        assert sidecar.process.wait(timeout=30) == 78

    [line] = map(json.loads, sidecar.said.splitlines())
    assert line["message"].startswith("SIDECAR_DATABASE_URL")
