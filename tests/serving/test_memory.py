"""A worker's memory does not grow with what strangers ask, whatever they make up.

``STRANGERS=1000000`` in the environment has that many requests asked, not some thousands.
"""

from __future__ import annotations

import json
import os
from random import Random
from time import sleep
from typing import Any

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.serving.meanwhile import request
from tests.serving.processes import children_of, resident_kib
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import serving
from tests.serving.talk import talking

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

STRANGERS = int(os.environ.get("STRANGERS", "20000"))
WARM_UP = 5_000  # until every bounded memory is full, and the allocator has what it needs
AT_ONCE = 40
MAY_GROW_KIB = 6 * 1_024


class Strangers:
    """Requests that were never made before, of every kind that anybody can send."""

    def __init__(self) -> None:
        self._random = Random(7)  # noqa: S311 - the same strangers each time
        self._kinds = (
            [self._question] * 11 + [self._gateway] * 4 + [self._with_context, self._evaluation] * 2
            + [self._nowhere, self._no_json, self._method, self._caller]
        )  # fmt: skip

    def request(self):
        return self._random.choice(self._kinds)()

    def _word(self) -> str:
        return f"{self._random.getrandbits(self._random.choice((64, 256))):x}"

    def _post(self, path, document):
        return request("POST", path, json.dumps(document).encode(), f"X-Request-ID: {self._word()}")

    def _asked(self):
        action = self._random.choice(("platform.use", "recording.start", self._word()))
        return {
            "user": self._word(),
            "workspace": self._random.choice(("acme", self._word())),
            "action": action,
        }

    def _question(self):
        return self._post("/v1/authorize", self._asked())

    def _with_context(self):
        """By a member: nobody else's question goes to the engine each time."""
        known = {"user": "adam", "workspace": "acme", "action": "platform.use"}
        return self._post("/v1/authorize", known | {"context": {"ip": self._word()}})

    def _evaluation(self):
        document = {
            "subject": {"type": "user", "id": self._word()},
            "action": {"name": self._word()},
            "resource": {"type": self._random.choice(("workspace", self._word())), "id": self._word()},
        }
        return self._post("/access/v1/evaluation", document)

    def _gateway(self):
        known = self._random.random() < 0.5
        token = a_token(sub=self._word()) if known else f"{self._word()}.{self._word()}.{self._word()}"
        path = f"/workspaces/{self._word()}/analytics?{self._word()}"
        lines = ("X-Original-Method: GET", f"X-Original-URI: {path}", f"Authorization: Bearer {token}")
        return request("GET", "/gw/nginx", b"", *lines, f"X-{self._word()}: {self._word()}")

    def _caller(self):
        return self._question().replace(b"\r\n", f"\r\nAuthorization: Bearer {self._word()}\r\n".encode(), 1)

    def _nowhere(self):
        return request("GET", f"/{self._word()}/{self._word()}?{self._word()}")

    def _no_json(self):
        return request("POST", "/v1/authorize", self._word().encode())

    def _method(self):
        return request(
            self._word()[:12].upper().translate({ord(c): "X" for c in "0123456789"}), "/v1/authorize"
        )


def ask(sidecar, strangers, times):
    """Statuses, of which each kind has its own: all of them were answered."""
    statuses = set()
    for _ in range(times // (AT_ONCE * 25)):
        with talking(sidecar) as talk:
            for _ in range(25):
                talk.send(b"".join(strangers.request() for _ in range(AT_ONCE)))
                answers = [talk.answer() for _ in range(AT_ONCE)]
                statuses |= {answer.status for answer in answers}
    return statuses


@pytest.fixture(scope="module")
def revision(policies_with_context, database_url):
    compiled = compiled_at(shipped("plans.yaml"), policies_with_context)
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    return compiled.revision


@pytest.mark.parametrize("engine", ["opa", "embedded"])
def test_the_memory_of_a_worker_is_flat_whatever_strangers_ask(
    tmp_path, database_url, policies_with_context, revision, engine
):
    if engine == "embedded":
        pytest.importorskip("regopy", reason="needs the extra `embedded`")
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    identity: dict[str, Any] = {"jwt_keys": f"hs256:{secret}", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}
    with (
        scripted_opa(revision) as opa,
        serving(
            tmp_path, engine=engine, opa_url=opa.url, database_url=database_url,
            policies=policies_with_context, workers=1, deadline_ms=5_000, **identity,
        ) as sidecar,
    ):  # fmt: skip
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        [worker] = children_of(sidecar.process.pid)
        strangers = Strangers()
        statuses = ask(sidecar, strangers, WARM_UP)
        before = resident_kib(worker)
        for _ in range(10):
            statuses |= ask(sidecar, strangers, STRANGERS // 10)
            assert sidecar.request("GET", "/readyz")[0] == 200
        sleep(1)
        grown = resident_kib(worker) - before

    assert statuses == {200, 400, 401, 403, 404, 405}
    assert grown < MAY_GROW_KIB
