"""The console of `sidecar dev`: its link signs in once, and its public token serves no page elsewhere."""

from __future__ import annotations

import json
import re
from http.client import HTTPConnection

import pytest

from tests.cli.test_dev import Dev
from tests.console.people import ask

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def running(database, tmp_path_factory):
    dev = Dev(tmp_path_factory.mktemp("dev"), "--database-url", database)
    try:
        yield dev.wait_until_ready()
    finally:
        dev.process.terminate()
        dev.rest()


def test_the_link_that_is_printed_last_signs_in_once_and_then_the_form_names_the_token(running):
    assert running.process.stderr.readline() == "\n"
    printed = running.process.stderr.readline()
    [link] = re.findall(rf"http://127\.0\.0\.1:{running.port}(/console/sign-in\?once=\S+)$", printed)

    wrong = ask(running.port, "GET", f"{link}x")
    first = ask(running.port, "GET", link)
    cookie = first[1]["set-cookie"].partition(";")[0]
    second = ask(running.port, "GET", link)
    page = ask(running.port, "GET", "/console/workspaces", Cookie=cookie)

    assert (wrong[0], "dev-token" in wrong[2]) == (200, True)
    assert (first[0], first[1]["location"], first[1]["cache-control"]) == (303, "/console/", "no-store")
    assert (second[0], "used already" in second[2], "dev-token" in second[2]) == (200, True, True)
    assert (page[0], "Acme" in page[2]) == (200, True)


def test_a_name_that_others_made_mean_this_machine_is_not_answered(running):
    question = json.dumps({"user": "sam", "workspace": "solo", "action": "platform.use"})

    def asked(host: str) -> list[int]:
        connection = HTTPConnection("127.0.0.1", running.port, timeout=10)
        found = []
        for method, path, body in (
            ("GET", "/console/", None),
            ("GET", "/plans", None),
            ("GET", "/v1/workspaces", None),
            ("POST", "/v1/authorize", question),
        ):
            headers = {"Host": host, "Authorization": "Bearer dev-token", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            with connection.getresponse() as response:
                response.read()
                found.append(response.status)
        connection.close()
        return found

    for host in ("127.0.0.1", "localhost", "[::1]", "LOCALHOST"):
        assert asked(f"{host}:{running.port}") == [303, 200, 200, 200]
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"):
        assert asked(host) == [400, 400, 400, 401]


def test_its_decisions_are_kept_for_the_console_too(running):
    running.ask(user="sam", workspace="solo", action="analytics.view")

    files = list((running.data_dir / "decisions").rglob("*.jsonl"))

    assert len(files) == 1
