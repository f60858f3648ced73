"""A policy of another domain changes while it is asked, and nobody notices but by the answers."""

from __future__ import annotations

import json
import signal

import pytest

from sidecar.identity.callers import token_line
from sidecar.rego.authzen import authzen_policy_at
from tests.servers import free_port
from tests.serving.serving import serving
from tests.serving.test_release import TOKEN, opa_that_polls

pytestmark = [pytest.mark.postgres, pytest.mark.opa, pytest.mark.slow, pytest.mark.long]

POLICY = """package authzen

default decision := false

decision if data.authzen.owner == input.subject.id
"""
ASKED = {
    "subject": {"type": "user", "id": "alice"},
    "action": {"name": "read"},
    "resource": {"type": "record", "id": "1"},
}


def written(folder, owner):
    (folder / "owner.json").write_text(json.dumps({"owner": owner}))
    return authzen_policy_at(folder).revision


def test_no_evaluation_is_an_outage_while_the_policy_changes_and_each_is_right(tmp_path, database):
    folder, tokens, port = tmp_path / "domain", tmp_path / "tokens", free_port()
    folder.mkdir()
    (folder / "policy.rego").write_text(POLICY)
    tokens.write_text(token_line("all", ["authorize", "audit"], TOKEN))
    first = written(folder, "alice")
    settings = {"tokens": tokens, "authzen_policy": folder, "deadline_ms": 5_000, "port": port}
    with (
        opa_that_polls(port, tmp_path) as opa,
        serving(tmp_path, database_url=database, opa_url=opa, **settings) as sidecar,
    ):
        sidecar.headers = {"Authorization": f"Bearer {TOKEN}"}
        assert sidecar.until(sidecar.is_ready), sidecar.said
        answers = []

        def has_changed():
            answers.append(sidecar.request("POST", "/access/v1/evaluation", ASKED))
            return "reloaded: revision" in sidecar.said and answers[-1][1]["decision"] is False

        assert [sidecar.request("POST", "/access/v1/evaluation", ASKED) for _ in range(4)] == [
            (200, {"decision": True})
        ] * 4
        second = written(folder, "bob")
        sidecar.signal(signal.SIGHUP)

        assert sidecar.until(has_changed, within_s=60), sidecar.said
        assert {status for status, _ in answers} == {200}
        assert {answer["decision"] for _, answer in answers} == {True, False}
        assert sidecar.until(lambda: sidecar.status()["authzen"]["revision"] == second)
        lines = [line for line in sidecar.lines if line.get("endpoint") == "access_evaluation"]
        assert {(line["policy_revision"], line["decision"]) for line in lines} == {
            (first, True),
            (second, False),
        }
