"""Schemathesis asks the real thing whatever /openapi.json allows, and much that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar.web.callers import SCOPES, token_line
from sidecar.web.endpoints import ENDPOINTS
from tests.web.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

# There are rules that a schema cannot say: which plans and meters there are, and that 1.0 is no whole number.
NOT_CHECKED = "positive_data_acceptance"
# Gateways ask with their client's method: none is refused, whatever is described.
ANY_METHOD = "^/gw/"


def test_the_api_is_as_it_describes_itself(database, tmp_path):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("all", SCOPES, "t"))
    settings = {"database_url": database, "engine": "embedded", "tokens": tokens, "deadline_ms": 5_000}
    with serving(tmp_path, workers=1, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)

        ended = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://127.0.0.1:{sidecar.port}/openapi.json",
                "--header=Authorization: Bearer t",
                "--max-examples=40",
                "--seed=1",
                f"--exclude-checks={NOT_CHECKED}",
                f"--exclude-path-regex={ANY_METHOD}",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert ended.returncode == 0, ended.stdout[-4_000:]
    described = [endpoint for endpoint in ENDPOINTS if not endpoint.for_gateways]
    assert f"Tested: {len(described) - 1}" in ended.stdout  # but for the description itself
    assert "Traceback" not in sidecar.said
