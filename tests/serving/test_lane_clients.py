"""Real clients stay in the lane: each of their requests is read there, over connections that are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.serving.clients import programs, python
from tests.serving.clients.asking import REQUESTS, Asking, is_granted
from tests.serving.serving import serving
from tests.serving.talk import read_by
from tests.store.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.serving.clients.asking import Answers
    from tests.serving.serving import Sidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

CLIENTS: dict[str, Callable[[Asking], Answers]] = {
    "http.client": python.by_http_client,
    "requests": python.by_requests,
    "httpx": python.by_httpx,
    "urllib": python.by_urllib,
    "our guard": python.by_guard,
    "curl": programs.by_curl,
    "node, fetch": programs.by_fetch,
    "node, http": programs.by_node_http,
    "Go": programs.by_go,
}
KEEP_NO_CONNECTION = {"urllib"}
SENDS_CHUNKS = ("http.client", "requests", "httpx", "curl", "node, fetch", "node, http", "Go")


@pytest.fixture(scope="module")
def sidecar(database, opa, tmp_path_factory) -> Iterator[Sidecar]:
    folder = tmp_path_factory.mktemp("lane")
    settings = {
        "database_url": database,
        "opa_url": opa.url,
        "deadline_ms": 5_000,
        "workers": 1,
        "lane": "on",
    }
    with serving(folder, also_at=folder / "socket", **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


def asked(
    sidecar: Sidecar, client: Callable[[Asking], Answers], asking: Asking
) -> tuple[dict[str, int], Answers]:
    """How many requests of *client* each reader has read, and the answers."""
    before = read_by(sidecar.folder / "socket")
    answers = client(asking)
    after = read_by(sidecar.folder / "socket")
    read = {reader: after[reader] - before[reader] for reader in after}
    return read | {"gunicorn": read["gunicorn"] - 1}, answers  # without the scrape


def all_are_granted(answers: Answers) -> bool:
    paths = [path for path, _ in REQUESTS] * 2
    return all(is_granted(path, answer) for path, answer in zip(paths, answers, strict=True))


@pytest.mark.parametrize("name", CLIENTS)
def test_every_request_of_a_real_client_is_read_by_the_lane(sidecar, tmp_path, name):
    with Proxy(f"postgresql://127.0.0.1:{sidecar.port}/") as way:
        asking = Asking(url=f"http://127.0.0.1:{way.port}", folder=tmp_path)
        read, answers = asked(sidecar, CLIENTS[name], asking)

    assert all_are_granted(answers)
    assert read == {"lane": len(answers), "gunicorn": 0}
    assert (way.accepted < len(answers)) == (name not in KEEP_NO_CONNECTION)


@pytest.mark.parametrize("name", SENDS_CHUNKS)
def test_a_body_in_chunks_goes_to_gunicorn_and_gets_the_same_answer(sidecar, tmp_path, name):
    """For gunicorn's parser to read: its length is not known, so that it may be cut in the wrong place."""
    asking = Asking(url=f"http://127.0.0.1:{sidecar.port}", folder=tmp_path, chunked=True)
    read, answers = asked(sidecar, CLIENTS[name], asking)

    assert all_are_granted(answers)
    assert read == {"lane": 0, "gunicorn": len(answers)}


def test_a_body_that_waits_to_be_asked_for_goes_to_gunicorn_and_gets_the_same_answer(sidecar, tmp_path):
    """curl sends this by itself with a body of more than 1 MiB, which is more than any endpoint takes."""
    url = f"http://127.0.0.1:{sidecar.port}"
    asking = Asking(url=url, folder=tmp_path, headers=("Expect: 100-continue",))
    read, answers = asked(sidecar, programs.by_curl, asking)

    assert all_are_granted(answers)
    assert read == {"lane": 0, "gunicorn": len(answers)}
