"""Releases under load: a changed catalog takes over while clients ask, and nobody notices but by the answers.

Two releases for each engine, as docs/operations/releases.md has them; ``TEST_RELEASES=20`` for the long form.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack, contextmanager
from time import sleep

import pytest

from sidecar.identity.callers import token_line
from sidecar.rego.compile import data_file
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.servers import free_port, opa_server
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

RELEASES = int(os.environ.get("TEST_RELEASES", "2"))
CLIENTS = 64
PAUSE_S = 0.5  # of each client: 64 of them are a load, and no measurement
TEXT = shipped("plans.yaml").read_text()
# Denied, and offers a plan for its price: so an answer shows by which catalog it was given.
QUESTION = {"user": "sam", "workspace": "solo", "action": "analytics.view"}
TOKEN = "t"  # noqa: S105 - of this test alone


class Everybody:
    """*price_of* has the price that an answer by each revision must name."""

    def __init__(self, port, price_of):
        self._port = port
        self._price_of = price_of
        self._ends = threading.Event()
        self.wrong: list[object] = []
        self.again = 0
        self.revisions: Counter[tuple[str, bool]] = Counter()
        self.ready: Counter[object] = Counter()

    @contextmanager
    def asking(self):
        threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        threads.append(threading.Thread(target=self._probe))
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._ends.set()
            for thread in threads:
                thread.join(20)

    def _ask(self, number):
        """Half of them with context, of which no verdict is kept: the engine is asked each time."""
        with_context = bool(number % 2)
        body = json.dumps(QUESTION | ({"context": {"ip": "10.0.0.1"}} if with_context else {}))
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._ends.is_set():
            try:
                status, answer = self._answer(connection, "POST", "/v1/authorize", body)
            except (OSError, http.client.HTTPException) as error:
                # Between two requests a worker that stops may close an idle connection: asked on a new one.
                connection.close()
                self.again += 1
                try:
                    status, answer = self._answer(connection, "POST", "/v1/authorize", body)
                except (OSError, http.client.HTTPException) as again:
                    self.wrong.append((error, again))
                    continue
            revision = answer.get("policy_revision")
            told = (
                status,
                answer.get("reason"),
                answer.get("upgrade", [{}])[0].get("price", {}).get("amount"),
            )
            if told != (200, "feature_not_in_plan", self._price_of.get(revision)):
                self.wrong.append((status, answer))
            self.revisions[revision, with_context] += 1
            self._ends.wait(PAUSE_S)
        connection.close()

    def _probe(self):
        while not self._ends.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
            try:
                self.ready[self._answer(connection, "GET", "/readyz", None)[0]] += 1
            except (OSError, http.client.HTTPException) as error:
                self.ready[repr(error)] += 1
            connection.close()
            self._ends.wait(0.05)

    def _answer(self, connection, method, path, body):
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def opa_that_polls(port, folder):
    """One that fetches its bundle from the sidecar, as docs/policies.md has it, every second."""
    config = folder / "opa.json"
    polling = {"min_delay_seconds": 1, "max_delay_seconds": 1}
    config.write_text(
        json.dumps(
            {
                "services": {
                    "sidecar": {
                        "url": f"http://127.0.0.1:{port}",
                        "credentials": {"bearer": {"token": TOKEN}},
                    }
                },
                "bundles": {
                    "authz": {"service": "sidecar", "resource": "bundles/authz.tar.gz", "polling": polling}
                },
            }
        )
    )
    return opa_server(options=["--config-file", str(config)])


class Releases:
    """Of one catalog after another, by the steps of docs/operations/releases.md."""

    def __init__(self, folder, policies, url):
        self.plans, self.policies, self._url = folder / "plans.yaml", folder / "policies", url
        self._output = folder / "rollout"
        self.price_of: dict[str, int] = {}
        shutil.copytree(policies, self.policies)

    def write(self, price):
        """Step 1, and the revision that it makes."""
        text = TEXT.replace("price: 149", f"price: {price}")
        self.plans.with_suffix(".new").write_text(text)
        self.plans.with_suffix(".new").replace(self.plans)
        compiled = compiled_at(self.plans, self.policies)
        (self.policies / "authz/plans/data.json").write_bytes(data_file(compiled.catalog))
        self.price_of[compiled.revision] = price
        return compiled.revision

    def roll_out(self, *more):
        """Step 2, and its process; what it says is in `said`."""
        command = [sys.executable, "-m", "sidecar", "rollout", "--database-url", self._url]
        command += ["--plans", self.plans, "--policies", self.policies, *more]
        with self._output.open("wb") as output:
            return subprocess.Popen(command, stdout=output, stderr=output)

    @property
    def said(self):
        return self._output.read_text()


@pytest.mark.parametrize("engine", [pytest.param("opa", marks=pytest.mark.opa), "embedded"])
def test_releases_under_load_give_no_503_no_wrong_answer_and_are_always_ready(
    tmp_path, fresh_database_url, policies_with_context, engine
):
    tokens, port = tmp_path / "tokens", free_port()
    tokens.write_text(token_line("all", ["authorize", "audit"], TOKEN))
    releases = Releases(tmp_path, policies_with_context, fresh_database_url)
    settings = {
        "engine": engine,
        "plans": releases.plans,
        "policies": releases.policies,
        "tokens": tokens,
        "deadline_ms": 5_000,  # that one is kept is tested where it is set
    }
    revisions = [releases.write(149)]
    assert releases.roll_out().wait(60) == 0, releases.said
    with ExitStack() as stack:
        if engine == "opa":
            settings["opa_url"] = stack.enter_context(opa_that_polls(port, tmp_path))
        sidecar = stack.enter_context(
            serving(tmp_path, database_url=fresh_database_url, port=port, **settings)
        )
        sidecar.headers = {"Authorization": f"Bearer {TOKEN}"}
        assert sidecar.until(sidecar.is_ready), sidecar.said
        with Everybody(port, releases.price_of).asking() as everybody:
            for number in range(RELEASES):
                revisions.append(releases.write(150 + number))
                rollout = releases.roll_out("--status", f"http://127.0.0.1:{port}")
                published = f"published {revisions[-1]}"
                assert sidecar.until(lambda published=published: published in releases.said), releases.said
                sidecar.signal(signal.SIGHUP)
                assert rollout.wait(60) == 0, releases.said + sidecar.said
            sleep(0.5)
            assert sidecar.until(lambda: sidecar.status()["converged"]), sidecar.status()

    sys.stderr.write(
        f"{sum(everybody.revisions.values())} answers, {everybody.ready}, {everybody.again} asked again\n"
    )
    assert everybody.wrong[:3] == []
    assert set(everybody.ready) == {200}
    assert {revision for revision, _ in everybody.revisions} == set(revisions)
    assert {with_context for _, with_context in everybody.revisions} == {True, False}
