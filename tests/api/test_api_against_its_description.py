"""Schemathesis asks the real thing whatever /openapi.json allows, and much that it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sidecar.api.audience import Audience
from sidecar.api.endpoints import ENDPOINTS
from sidecar.identity.callers import SCOPES, token_line
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

# There are rules that a schema cannot say: which plans and meters there are, and that 1.0 is no whole number.
NOT_CHECKED = "positive_data_acceptance"


# Who may not is told so before anybody looks at what they send; a plan that is too small is one reason.
REJECTED = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 402, 403, 404, 405, 409, 415, 503]
"""
# In these an item that is not as described is answered in its place, and the request is 200.
REJECTED += "".join(
    f"""
[[operations]]
include-name = "POST {path}"
checks.negative_data_rejection.enabled = false
"""
    for path in ("/v1/authorize/batch", "/access/v1/evaluations")
)
OF_USERS = [endpoint for endpoint in ENDPOINTS if endpoint.audience is Audience.END_USERS]
OF_GATEWAYS = [endpoint for endpoint in ENDPOINTS if endpoint.audience is Audience.GATEWAYS]
PATHS_OF_USERS = "^/(workspaces|invitations)"
OTHER_PATHS = "^/(workspaces|invitations|gw/)"  # gateways ask with any method of their clients


@pytest.mark.parametrize(
    ("which", "bearer", "tested", "examples"),
    [
        # All but the description itself.
        (
            f"--exclude-path-regex={OTHER_PATHS}",
            "t",
            len(ENDPOINTS) - len(OF_USERS) - len(OF_GATEWAYS) - 1,
            40,
        ),
        (
            f"--include-path-regex={PATHS_OF_USERS}",
            a_token(sub="olivia", iss=ISSUER),
            len(OF_USERS),
            15,
        ),
    ],
    ids=["callers", "users"],
)
def test_the_api_is_as_it_describes_itself(database, tmp_path, which, bearer, tested, examples):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("all", SCOPES, "t"))
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    settings: dict[str, Any] = {
        "database_url": database,
        "engine": "embedded",
        "tokens": tokens,
        "deadline_ms": 5_000,
        "jwt_keys": f"hs256:{secret}",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    (tmp_path / "schemathesis.toml").write_text(REJECTED)
    with serving(tmp_path, workers=1, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)

        ended = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                "run",
                f"http://127.0.0.1:{sidecar.port}/openapi.json",
                f"--header=Authorization: Bearer {bearer}",
                which,
                f"--max-examples={examples}",
                "--seed=1",
                f"--exclude-checks={NOT_CHECKED}",
                "--no-color",
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert ended.returncode == 0, ended.stdout[-9_000:]
    assert f"Tested: {tested}" in ended.stdout
    assert "Traceback" not in sidecar.said
