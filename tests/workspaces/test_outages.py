"""What we depend on says nonsense: that is an outage, and nobody gains by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.store.connections import Connections
from tests.api.stage import PolicyInPython
from tests.postgres_server import run
from tests.values import the_catalog
from tests.workspaces.stage import a_people_stage

pytestmark = pytest.mark.postgres


class Generous(PolicyInPython):
    """Grants anything to anybody, and names no limit."""

    def verdict(self, situation, /, *, deadline):
        verdict = super().verdict(situation, deadline=deadline)
        return replace(
            verdict, allow=True, reason="granted", status=200, charges={}, upgrade=(), needs_roles=()
        )


def said(answer):
    return answer.status_code, answer.json["code"]


def test_a_policy_that_lets_a_stranger_in_is_none(database_url):
    with a_people_stage(database_url, engine=Generous(the_catalog())) as stage:
        for path in ("/workspaces/acme", "/workspaces/acme/members", "/workspaces/acme/invitations"):
            assert said(stage.get("zoe", path)) == (503, "policy_engine_misbehaved")
        assert said(stage.delete("zoe", "/workspaces/acme")) == (503, "policy_engine_misbehaved")


def test_a_seat_without_a_limit_is_not_given(database_url):
    with a_people_stage(database_url, engine=Generous(the_catalog())) as stage:
        answer = stage.post(
            "olivia", "/workspaces/acme/invite", {"email": "eve@example.com", "role": "member"}
        )

        assert said(answer) == (503, "policy_engine_misbehaved")
        assert stage.rows("SELECT 1 FROM authz.workspace_invitations") == []


def test_a_seat_that_comes_and_goes_is_an_outage(stage, monkeypatch):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "eve@example.com")["token"]
    monkeypatch.setattr("sidecar.store.people.PostgresPeople.accept", lambda *_, **__: "full")
    monkeypatch.setattr("sidecar.store.people.PostgresPeople.invite", lambda *_, **__: None)

    body = {"email": "ivy@example.com", "role": "member"}
    assert said(stage.post("nora", f"/workspaces/{shop}/invite", body)) == (503, "workspace_contended")
    assert said(stage.accept("eve", token)) == (503, "workspace_contended")


@pytest.mark.parametrize("nonsense", [b"", b"{}", b"[1]", b"null", b'[{"user": 7}]', b"\xff"])
def test_an_answer_outside_of_its_contract_is_an_outage(stage, monkeypatch, nonsense):
    shop = stage.workspace(owner="nora", members={"max": "member"})
    token = stage.invited("nora", shop, "eve@example.com")["token"]
    real = Connections.answer

    def answer(self, query, params, /, *, deadline):
        if query.name in {b"people_of", b"transfer_ownership", b"invite", b"accept_invitation"}:
            return nonsense
        return real(self, query, params, deadline=deadline)

    monkeypatch.setattr(Connections, "answer", answer)
    body = {"email": "ivy@example.com", "role": "member"}
    answers = [
        stage.get("nora", f"/workspaces/{shop}/members"),
        stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "max"}),
        stage.post("nora", f"/workspaces/{shop}/invite", body),
        stage.accept("eve", token),
    ]

    said_of_each = [said(answer) for answer in answers]
    if nonsense == b"null":  # from `invite` that is "no seat"
        assert said_of_each.pop(2) == (503, "workspace_contended")
    assert set(said_of_each) == {(503, "facts_misread")}


def test_without_a_catalog_nobody_is_made_a_workspace(fresh_database_url):
    run(fresh_database_url, "DELETE FROM authz.catalog")
    with a_people_stage(fresh_database_url) as stage:
        assert said(stage.get("newcomer", "/workspaces")) == (503, "facts_unavailable")
        assert said(stage.post("olivia", "/workspaces", {"name": "Shop"})) == (503, "facts_unavailable")
        assert stage.rows("SELECT 1 FROM authz.users WHERE id = 'newcomer'") == []
