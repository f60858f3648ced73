"""One table of cases, run against Flask, FastAPI, Hono and Express: the guards of all four do the same."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import pytest
import yaml

from sidecar.guard import Client
from tests.guard.backends import BACKENDS, PATIENT_S
from tests.guard.scripted import a_scripted_sidecar
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.guard.backends import Backend
    from tests.guard.scripted import ScriptedSidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "cases.yaml").read_text())
FIELDS = {
    *("case", "guards", "route", "path", "user", "headers_sent", "sidecar", "times"),
    *("status", "headers", "body", "asks", "asked", "takes", "log"),
}


@pytest.fixture(scope="module")
def scripted() -> Iterator[ScriptedSidecar]:
    with a_scripted_sidecar() as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def client(real_sidecar) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{real_sidecar.port}", timeout_s=PATIENT_S) as client:
        yield client


@pytest.fixture(scope="module")
def backend_of(real_sidecar, scripted, tmp_path_factory) -> Iterator[Callable[[str], Backend]]:
    """Each is started when it is first wanted, and ends with the tests."""
    running: dict[str, Backend] = {}
    urls = {
        "real": f"http://127.0.0.1:{real_sidecar.port}",
        "scripted": scripted.url,
        "away": f"http://127.0.0.1:{free_port()}",
    }
    with ExitStack() as stack:

        def backend(name: str) -> Backend:
            if name not in running:
                started = BACKENDS[name](CASES, urls, tmp_path_factory.mktemp(name))
                running[name] = stack.enter_context(started)
            return running[name]

        yield backend


def used(client: Client) -> int:
    return client.check("recording.start", user="mia", workspace="acme").quota["minutes"].used


def is_as_expected(value: Any, expected: Any) -> bool:
    """Equal, but for "*", which is any value."""
    if expected == "*":
        return value is not None
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(
            is_as_expected(value[name], expected[name]) for name in expected
        )
    if isinstance(expected, list) and isinstance(value, list):
        return len(value) == len(expected) and all(map(is_as_expected, value, expected))
    return bool(value == expected and type(value) is type(expected))


def request_of(case: dict[str, Any], number: int, *, once: str, turn: int) -> tuple[str, dict[str, str]]:
    """Path and header fields."""

    def filled(text: str) -> str:
        text = text.replace("{once}", once).replace("{turn}", str(turn))
        return text.replace("{long}", "x" * 257)

    path, _, query = filled(case.get("path", "/acme")).partition("?")
    headers = {name: filled(value) for name, value in case.get("headers_sent", {}).items()}
    if (user := case.get("user", "mia")) is not None:
        headers["X-User"] = user
    return f"/{number}{path}" + (f"?{quote(query, safe='=&')}" if query else ""), headers


@pytest.mark.parametrize("framework", BACKENDS)
@pytest.mark.parametrize("number", range(len(CASES)), ids=[case["case"] for case in CASES])
def test_a_case_is_the_same_in_every_framework(framework, number, backend_of, scripted, client):
    case, once = CASES[number], uuid4().hex
    backend, is_scripted = backend_of(framework), isinstance(case.get("sidecar"), dict)
    scripted.answer_as(case["sidecar"] if is_scripted else {})
    before = used(client)
    backend.errors()  # of other cases
    *earlier, (status, received, body) = [
        backend.ask(*request_of(case, number, once=once, turn=turn))
        for turn in range(1, case.get("times", 1) + 1)
    ]

    assert [each for each, _, _ in earlier if each != 200] == []
    assert status == case["status"], body
    assert case["body"] is None or is_as_expected(json.loads(body), case["body"]), body
    for name, expected in case.get("headers", {}).items():
        assert received.get(name.lower()) == expected, name
    if "asks" in case:
        assert scripted.calls == case["asks"]
    if "asked" in case:
        assert scripted.asked == [case["asked"]]
    assert used(client) - before == case.get("takes", 0)
    if "log" in case:
        [line] = backend.errors()
        assert f'the view "{backend.view(number)}"' in line
        assert case["log"] in line


def test_the_table_has_no_field_that_nothing_reads():
    assert {name for case in CASES for name in case} <= FIELDS
    assert len({case["case"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize(
    ("value", "expected", "is_it"),
    [
        ({"a": 1}, {"a": "*"}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ([1], ["*", 2], False),
        (1, True, False),
    ],
)
def test_what_is_expected_is_all_that_there_is(value, expected, is_it):
    assert is_as_expected(value, expected) is is_it
