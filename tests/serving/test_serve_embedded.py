"""`sidecar serve` with the engine in its workers: its workers stay small, however many ask."""

from __future__ import annotations

import http.client
import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from sidecar.engines.apart import refuse_if_dangerous
from sidecar.errors import ConfigError
from sidecar.identity.callers import SCOPES, token_line
from sidecar.rego.load import compiled_at
from sidecar.serving.loaded import load
from sidecar.settings import Settings, shipped
from sidecar.store.migrate import migrate
from tests.engines.test_apart import TAKES_LONG
from tests.servers import free_port
from tests.serving.serving import QUESTION, serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

_MIB = 1_024
pytest.importorskip("grpc", reason="needs the extra `grpc`")
pytest.importorskip("regopy", reason="needs the extra `embedded`")


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """The shipped policies, with a field of context declared: a question that brings it is never memoised."""
    folder = tmp_path_factory.mktemp("policies") / "policies"
    shutil.copytree(shipped("policies"), folder)
    entrypoint = folder / "authz" / "decision.rego"
    entrypoint.write_text(entrypoint.read_text().replace("#   context: []", "#   context: [ip]"))
    return folder


def resident_kib(process: int) -> int:
    """Of the process and its children: the master and its workers."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (process, *children))
    return pages * 4


def test_neither_questions_with_context_nor_probes_leave_memory_behind(database_url, policies, tmp_path):
    compiled = compiled_at(shipped("plans.yaml"), policies)
    migrate(database_url, catalog=compiled.catalog, revision=compiled.revision)
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("test", SCOPES, "secret") + "\n")
    headers = {"Authorization": "Bearer secret", "Content-Type": "application/json"}
    port = free_port()

    with serving(
        tmp_path,
        port=port,
        bind=f"127.0.0.1:{port},grpc://127.0.0.1:{free_port()}",  # gRPC is in C++, as the engine is
        database_url=database_url,
        engine="embedded",
        policies=policies,
        tokens=tokens,
        workers=1,
        deadline_ms=5_000,
    ) as sidecar:
        sidecar.headers = headers
        assert sidecar.until(sidecar.is_ready)
        connection = http.client.HTTPConnection("127.0.0.1", sidecar.port, timeout=10)

        def answered(method: str, path: str, body: object = None) -> int:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, headers)
            with connection.getresponse() as response:
                response.read()
                return response.status

        def ask(first: int, last: int) -> set[int]:
            return {
                answered("POST", "/v1/authorize", QUESTION | {"context": {"ip": f"10.0.{number}.1"}})
                for number in range(first, last)
            }

        assert ask(0, 500) | {answered("GET", "/readyz") for _ in range(50)} == {200}
        before = resident_kib(sidecar.process.pid)
        statuses = ask(500, 3_500) | {answered("GET", "/readyz") for _ in range(200)}
        grown = resident_kib(sidecar.process.pid) - before
        connection.close()
        evaluated = _evaluations(sidecar)

    assert statuses == {200}
    assert evaluated >= 3_500
    assert grown < 4 * _MIB


def _evaluations(sidecar) -> int:
    text = sidecar.request("GET", "/metrics")[1].decode()
    lines = [line for line in text.splitlines() if line.startswith("sidecar_engine_seconds_count")]
    return int(sum(float(line.rpartition(" ")[2]) for line in lines))


def test_a_policy_for_authzen_that_takes_too_long_does_not_start(tmp_path, monkeypatch):
    (tmp_path / "slow.rego").write_text(TAKES_LONG.replace("package authz\n", "package authzen\n"))
    monkeypatch.setattr(
        "sidecar.serving.loaded.refuse_if_dangerous", partial(refuse_if_dangerous, within_s=1)
    )
    settings = Settings(
        database_url="postgresql://x",
        plans=shipped("plans.yaml"),
        engine="embedded",
        authzen_policy=tmp_path,
    )

    with pytest.raises(ConfigError) as caught:
        load(settings)

    [problem] = caught.value.problems
    assert problem.pointer == str(tmp_path)
    assert "did not answer by it within 1 s" in problem.detail
