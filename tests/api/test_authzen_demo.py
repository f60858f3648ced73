"""AuthZEN over the demo world and a real PostgreSQL: what is found is what is granted, quotas included."""

from __future__ import annotations

import json
from itertools import product

import pytest

from sidecar.identity.callers import token_line
from tests.api.authzen_server import Client
from tests.postgres_server import run
from tests.serving.serving import serving
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

USERS = ["adam", "eve", "mia", "olivia", "pia", "sam", "zoe"]
WORKSPACES = ["acme", "nowhere", "piano", "solo", "zoe"]
ACTIONS = sorted(the_catalog().declared_actions)
WHO_OWNS = {"acme": "olivia", "piano": "pia", "solo": "sam", "zoe": "zoe"}


@pytest.fixture(scope="module")
def client(database, tmp_path_factory):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder = tmp_path_factory.mktemp("demo")
    tokens = folder / "tokens"
    tokens.write_text(token_line("pep", ["authorize"], "pep-token"))
    settings = {"authzen_url": "https://pdp.example.com/tenant1", "tokens": tokens, "deadline_ms": 5_000}
    with serving(folder, database_url=database, engine="embedded", workers=1, **settings) as sidecar:
        if not sidecar.until(sidecar.is_ready):
            raise AssertionError(f"not ready:\n{sidecar.said}")
        yield Client(sidecar)


def post(client, path, body):
    came = client.post(path, body, Authorization="Bearer pep-token")
    assert came.status == 200, came
    return came.json


def of(user, workspace, action):
    parts = {
        "subject": {"type": "user", "id": user},
        "resource": {"type": "workspace", "id": workspace},
        "action": {"name": action},
    }
    return {
        part: {name: value for name, value in named.items() if value is not None}
        for part, named in parts.items()
        if named != {"name": None}
    }


def found(client, kind, body):
    """Page after page of two."""
    names, body = [], body | {"page": {"limit": 2}}
    while True:
        answer = post(client, f"search/{kind}", body)
        names += [list(each.values())[-1] for each in answer["results"]]
        if not answer["page"]["next_token"]:
            return names
        body["page"] = {"token": answer["page"]["next_token"]}


CHANGES = [
    "SELECT 1",
    "SELECT authz.set_status('piano', 'suspended')",
    "SELECT authz.set_overrides('acme', '{\"analytics\": false}', '{\"minutes\": 0}')",
    """INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)
    SELECT id, 'scenarios', '-infinity', 10 FROM authz.workspaces WHERE slug = 'solo'""",
    """UPDATE authz.workspace_memberships SET role = 'janitor' WHERE user_id = 'mia'""",
    "DELETE FROM authz.workspace_memberships WHERE user_id = 'adam'",
]


def test_what_is_found_is_what_is_granted_whatever_happens(client, database):
    for change in CHANGES:
        run(database, change)
        everything = list(product(USERS, WORKSPACES, ACTIONS))
        answers = post(client, "evaluations", {"evaluations": [of(*each) for each in everything]})
        granted = {
            each
            for each, answer in zip(everything, answers["evaluations"], strict=True)
            if answer["decision"] is True
        }
        by_subject = {
            (user, workspace, action)
            for workspace, action in product(WORKSPACES, ACTIONS)
            for user in found(client, "subject", of(None, workspace, action))
        }
        by_resource = {
            (user, workspace, action)
            for user, action in product(USERS, ACTIONS)
            for workspace in found(client, "resource", of(user, None, action))
        }
        by_action = {
            (user, workspace, action)
            for user, workspace in product(USERS, WORKSPACES)
            for action in found(client, "action", of(user, workspace, None))
        }

        assert by_subject == granted, change
        assert by_resource == granted, change
        assert by_action == granted, change
        assert {(owner, slug) for slug, owner in WHO_OWNS.items()} <= {
            (user, slug) for user, slug, _ in granted
        }


def test_a_denial_says_what_would_change_it(client):
    answer = post(client, "evaluation", of("sam", "solo", "analytics.view"))

    assert answer["decision"] is False
    assert (answer["context"]["reason"], answer["context"]["status"]) == ("feature_not_in_plan", 402)
    assert [offer["plan"] for offer in answer["context"]["upgrade"]] == ["pro", "team"]


def test_a_workspace_may_be_named_by_its_id(client):
    [slug] = found(client, "resource", of("sam", None, "platform.use"))
    entitlements = client.sidecar.request(
        "GET", f"/v1/workspaces/{slug}/entitlements?user=sam", headers={"Authorization": "Bearer pep-token"}
    )[1]

    id_ = entitlements["workspace"]["id"]
    assert post(client, "evaluation", of("sam", id_.upper(), "platform.use"))["decision"] is True
    assert found(client, "subject", of(None, id_, "platform.use")) == ["sam"]


def test_with_an_identifier_the_metadata_are_those_of_it_and_may_be_kept(client):
    came = client.send("GET", "/.well-known/authzen-configuration/tenant1", Host="evil.example")

    assert came.status == 200
    assert came.headers["cache-control"] == "max-age=300"
    assert came.json["policy_decision_point"] == "https://pdp.example.com/tenant1"
    assert came.json["search_action_endpoint"] == "https://pdp.example.com/tenant1/access/v1/search/action"
    for other in ("", "/tenant2", "/tenant1/", "/tenant1%2f"):
        assert client.send("GET", f"/.well-known/authzen-configuration{other}").status == 404


def test_without_a_token_nobody_asks(client):
    content = json.dumps(of("sam", "solo", "platform.use")).encode()

    for headers in ({}, {"Authorization": "undefined"}):
        came = client.send(
            "POST", "/access/v1/evaluation", content, Content_Type="application/json", **headers
        )
        assert (came.status, came.headers["www-authenticate"]) == (401, 'Bearer realm="sidecar"')
