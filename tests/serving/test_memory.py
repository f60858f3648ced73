"""A worker's memory does not grow with what strangers ask, whatever they make up.

``STRANGERS=1000000`` in the environment has that many requests asked, not some thousands.
"""

from __future__ import annotations

import json
import os
from collections import deque
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
from tests.serving.serving import LANE, serving
from tests.serving.talk import read_by, talking

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

STRANGERS = int(os.environ.get("STRANGERS", "20000"))
WARM_UP = 5_000  # until every bounded memory is full, and the allocator has what it needs
AT_ONCE = 40
MAY_GROW_KIB = 6 * 1_024


class Strangers:
    """Requests that were never made before, of every kind that anybody can send.

    *plain* ones are read by the lane. The others are not, nor is anything that comes behind one of them.
    """

    def __init__(self) -> None:
        self._random = Random(7)  # noqa: S311 - the same strangers each time
        self._plain = (
            [self._question] * 8 + [self._nginx, self._envoy, self._opa] * 2 + [self._evaluation] * 2
            + [self._with_context, self._in_no_context, self._consume, self._batch, self._evaluations]
            + [self._no_json, self._caller, self._again]
        )  # fmt: skip
        self._odd = [self._nowhere, self._method, self._chunked, self._typed]
        self._last: deque[bytes] = deque(maxlen=50)

    def plain(self):
        content = self._random.choice(self._plain)()
        self._last.append(content)
        return content

    def odd(self):
        return self._random.choice(self._odd)()

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

    def _in_no_context(self):
        """By a stranger, with fields that no policy has declared."""
        context = {self._word(): self._word(), "ip": [self._word()]}
        return self._post("/v1/authorize", self._asked() | {"context": context})

    def _consume(self):
        more = {"mode": "consume", "idempotency_key": self._word(), "resource": self._word()}
        return self._post("/v1/authorize", self._asked() | more)

    def _batch(self):
        return self._post("/v1/authorize/batch", {"questions": [self._asked() for _ in range(5)]})

    def _evaluated(self):
        return {
            "subject": {"type": "user", "id": self._word()},
            "action": {"name": self._word()},
            "resource": {"type": self._random.choice(("workspace", self._word())), "id": self._word()},
        }

    def _evaluation(self):
        return self._post("/access/v1/evaluation", self._evaluated())

    def _evaluations(self):
        document = {"evaluations": [self._evaluated() for _ in range(5)]}
        return self._post("/access/v1/evaluations", document)

    def _of_a_gateway(self):
        """A path with a query, and what stands in Authorization: half of the tokens are good."""
        known = self._random.random() < 0.5
        token = a_token(sub=self._word()) if known else f"{self._word()}.{self._word()}.{self._word()}"
        return f"/workspaces/{self._word()}/analytics?{self._word()}", f"Bearer {token}"

    def _nginx(self):
        path, token = self._of_a_gateway()
        lines = ("X-Original-Method: GET", f"X-Original-URI: {path}", f"Authorization: {token}")
        return request("GET", "/gw/nginx", b"", *lines, f"X-{self._word()}: {self._word()}")

    def _envoy(self):
        path, token = self._of_a_gateway()
        own = (f"Authorization: {token}", f"X-Request-ID: {self._word()}")
        return request("GET", f"/gw/ext-authz{path}", b"", *own)

    def _opa(self):
        path, token = self._of_a_gateway()
        asked = {"method": "GET", "path": path, "headers": {"authorization": token, self._word(): "x"}}
        return self._post("/v1/data/kong", {"input": {"request": {"http": asked}}})

    def _again(self):
        """For what remembers only what comes twice."""
        return self._random.choice(self._last) if self._last else self._question()

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

    def _chunked(self):
        body = json.dumps(self._asked()).encode()
        head = request("POST", "/v1/authorize", b"", "Content-Type: application/json")
        head = head.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")
        return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)

    def _typed(self):
        """In gunicorn's protocol, whoever sends it: a name with `_` is not for the lane."""
        return self._question().replace(b"Host:", f"X_{self._word()}: {self._word()}\r\nHost:".encode())


def ask(sidecar, strangers, times):
    """Statuses, of which each kind has its own: all of them were answered. One in ten is odd."""
    statuses = set()
    for _ in range(times // (AT_ONCE * 25)):
        with talking(sidecar) as lane, talking(sidecar) as other:
            for number in range(25):
                talk, a_request = (other, strangers.odd) if number % 10 == 0 else (lane, strangers.plain)
                talk.send(b"".join(a_request() for _ in range(AT_ONCE)))
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
            policies=policies_with_context, workers=1, deadline_ms=5_000, also_at=tmp_path / "socket",
            **identity,
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
        read = read_by(tmp_path / "socket")

    assert statuses == {200, 400, 401, 403, 404, 405}
    assert (read["lane"] > 5 * read["gunicorn"]) == (LANE == "on")
    assert grown < MAY_GROW_KIB
