"""AuthZEN's certification scenario over HTTP, with each engine: a test for each of its rules.

The rules are those of openid/authzen, `certification/`, and those that only its conformance suite pins.
"""

from __future__ import annotations

import json

import pytest

from sidecar.api.authzen.wire import KINDS
from tests.api.authzen_server import SCENARIOS, serving_policy

pytestmark = pytest.mark.postgres

ONE, MANY, SEARCHES = "evaluation", "evaluations", [f"search/{kind}" for kind in KINDS]
ALICE, BOB = {"type": "user", "id": "alice"}, {"type": "user", "id": "bob"}
ADMIN = BOB | {"properties": {"role": "admin"}}
READ, WRITE = {"name": "read"}, {"name": "write"}
FIRST = {"type": "record", "id": "record-1"}
ACTIVE = FIRST | {"properties": {"status": "active"}}
ARCHIVED = {"type": "record", "id": "record-2", "properties": {"status": "archived"}}
CONTEXT = {"time": "2025-06-27T18:03-07:00", "ip": "192.168.1.1"}


@pytest.fixture(scope="module", params=["embedded", pytest.param("opa", marks=pytest.mark.opa)])
def client(request, database, compiled, tmp_path_factory):
    if request.param == "embedded":
        pytest.importorskip("regopy", reason="needs the extra `embedded`")
    with serving_policy(
        SCENARIOS / "certification",
        folder=tmp_path_factory.mktemp("certification"),
        database=database,
        compiled=compiled,
        engine=request.param,
    ) as client:
        yield client


def asks(subject=ALICE, action=READ, resource=FIRST, **more):
    return {"subject": subject, "action": action, "resource": resource} | more


def without(part, of=None):
    return {name: value for name, value in (of or asks()).items() if name != part}


def decision(client, body):
    came = client.post(ONE, body)
    assert (came.status, came.headers["content-type"]) == (200, "application/json"), came
    document = came.json
    assert type(document["decision"]) is bool
    return document["decision"]


def decisions(client, body):
    came = client.post(MANY, body)
    assert (came.status, came.headers["content-type"]) == (200, "application/json"), came
    document = came.json
    assert list(document) == ["evaluations"]
    assert all(type(each["decision"]) is bool for each in document["evaluations"])
    return [each["decision"] for each in document["evaluations"]]


def found(client, kind, body):
    came = client.post(f"search/{kind}", body)
    assert (came.status, came.headers["content-type"]) == (200, "application/json"), came
    keys = ["name"] if kind == "action" else ["type", "id"]
    assert all(list(each) == keys for each in came.json["results"])
    return [each[keys[-1]] for each in came.json["results"]]


# --- one decision


def test_alice_reads(client):
    assert decision(client, asks(ALICE, READ)) is True


def test_alice_writes(client):
    assert decision(client, asks(ALICE, WRITE)) is True


def test_bob_reads(client):
    assert decision(client, asks(BOB, READ)) is True


def test_bob_does_not_write(client):
    assert decision(client, asks(BOB, WRITE)) is False


def test_alice_does_not_write_what_is_said_to_be_archived(client):
    assert decision(client, asks(ALICE, WRITE, ARCHIVED)) is False
    assert decision(client, asks(ALICE, WRITE, FIRST | {"properties": {"status": "archived"}})) is False


def test_who_is_said_to_be_an_admin_writes_what_is_archived(client):
    assert decision(client, asks(ADMIN, WRITE, ARCHIVED)) is True
    assert decision(client, asks(ALICE | {"properties": {"role": "admin"}}, WRITE, ARCHIVED)) is True


def test_alice_deletes_softly(client):
    assert decision(client, asks(ALICE, {"name": "delete", "properties": {"soft": True}})) is True


@pytest.mark.parametrize("properties", [{"soft": False}, {"soft": "true"}, {"soft": 1}, {}, None], ids=str)
def test_alice_does_not_delete_for_good(client, properties):
    assert decision(client, asks(ALICE, {"name": "delete", "properties": properties})) is False


def test_a_context_changes_nothing(client):
    assert decision(client, asks(context=CONTEXT)) is True
    assert decision(client, asks(BOB, WRITE, context=CONTEXT)) is False


def test_further_properties_change_nothing(client):
    subject = ALICE | {"properties": {"department": "Sales", "role": "manager"}}
    action = READ | {"properties": {"method": "GET"}}
    resource = FIRST | {"properties": {"status": "active", "owner": "bob"}}

    assert decision(client, asks(subject, action, resource)) is True


def test_unknown_fields_change_nothing(client):
    assert decision(client, asks(foo="bar", futureField={"nested": True})) is True
    assert decision(client, asks(ALICE | {"x": 1}, READ | {"x": [{}]}, FIRST | {"x": None})) is True


@pytest.mark.parametrize(
    "text", ['a"b', "\\", "a\nb", "é", "😀", "\u2028", "${x}", "data.authzen", "alice ", "ALICE", "a" * 1_000]
)
def test_somebody_unknown_is_denied_whatever_they_are_called(client, text):
    assert decision(client, asks({"type": "user", "id": text})) is False
    assert decision(client, asks(ALICE, {"name": text})) is False
    assert decision(client, asks(ALICE | {"type": text})) is False
    assert decision(client, asks(ALICE, READ, {"type": "record", "id": text})) is False
    assert decision(client, asks(context={text[:256]: [text, {"x": text}]})) is True


def test_the_same_question_has_the_same_answer(client):
    assert [decision(client, asks(BOB, action)) for action in (READ, WRITE) * 3] == [True, False] * 3


# --- what is no question


@pytest.mark.parametrize("part", ["subject", "action", "resource"])
def test_an_evaluation_without_a_part_is_400(client, part):
    assert client.post(ONE, without(part)).status == 400
    assert client.post(MANY, without(part)).status == 400


@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"id": "alice"}},
        {"subject": {"type": "user"}},
        {"action": {}},
        {"resource": {"id": "record-1"}},
        {"resource": {"type": "record"}},
        {"subject": "alice"},
        {"action": {"name": 123}},
    ],
    ids=str,
)
def test_an_evaluation_with_a_part_that_is_none_is_400(client, change):
    assert client.post(ONE, asks() | change).status == 400


@pytest.mark.parametrize("path", [ONE, MANY, *SEARCHES])
def test_another_content_type_is_400(client, path):
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        assert client.post(path, asks(), Content_Type=content_type).status == 400


@pytest.mark.parametrize("path", [ONE, MANY, *SEARCHES])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe"])
def test_what_is_no_json_object_is_400(client, path, content):
    came = client.send("POST", f"/access/v1/{path}", content, Content_Type="application/json")

    assert came.status == 400
    assert "decision" not in came.json


@pytest.mark.parametrize("path", [ONE, MANY, *SEARCHES])
def test_another_method_is_no_way_to_ask(client, path):
    assert client.send("GET", f"/access/v1/{path}").status in {400, 404, 405}
    content = json.dumps(asks()).encode()
    assert client.send("PUT", f"/access/v1/{path}", content, Content_Type="application/json").status in {
        400,
        404,
        405,
    }


@pytest.mark.parametrize("path", [ONE, MANY, *SEARCHES])
def test_the_charset_may_be_said(client, path):
    assert client.post(path, asks(), Content_Type="application/json; charset=utf-8").status == 200


@pytest.mark.parametrize(
    "sent", ["bfe9eb29-ab87-4ca3-be83-a1d5d8305716", 'not "a" uuid, <at> all', "x" * 2_000]
)
def test_the_request_id_comes_back_with_answers_and_errors_alike(client, sent):
    for path, body, status in (
        (ONE, asks(), 200),
        (ONE, {}, 400),
        (MANY, asks(evaluations=[{}]), 200),
        ("search/subject", asks(), 200),
        ("nowhere", asks(), 404),
    ):
        came = client.post(path, body, X_Request_ID=sent)
        assert (came.status, came.headers["x-request-id"]) == (status, sent)


def test_without_a_request_id_nothing_fails(client):
    assert client.post(ONE, asks()).headers["x-request-id"] != ""


def test_a_conformance_run_needs_no_token(client):
    content = json.dumps(asks()).encode()

    came = client.send("POST", "/access/v1/evaluation", content, Content_Type="application/json")

    assert (came.status, came.json) == (200, {"decision": True})


@pytest.mark.parametrize("shown", ["", "undefined", "Bearer x", "Bearer", "Basic eDp5", "dev-token"])
def test_a_wrong_credential_is_401_even_where_none_is_needed(client, shown):
    content = json.dumps(asks()).encode()

    came = client.send(
        "POST", "/access/v1/evaluation", content, Content_Type="application/json", Authorization=shown
    )

    assert (came.status, came.json["code"]) == (401, "unauthenticated")
    assert came.headers["www-authenticate"].startswith("Bearer")


def test_our_own_api_is_not_open_with_it(client):
    content = json.dumps({"user": "adam", "workspace": "acme", "action": "platform.use"}).encode()
    headers = {"Content_Type": "application/json", "Authorization": "undefined"}

    assert client.send("POST", "/v1/authorize", content, **headers).status == 401
    assert client.send("GET", "/metrics", Authorization="undefined").status == 401


# --- many at once


def test_many_are_answered_in_order(client):
    body = {"subject": BOB, "resource": FIRST, "evaluations": [{"action": READ}, {"action": WRITE}]}

    assert decisions(client, body) == [True, False]


def test_as_many_answers_come_as_there_were_evaluations(client):
    body = without("resource") | {"evaluations": [{"resource": FIRST}, {"resource": ARCHIVED}]}

    assert len(decisions(client, body)) == 2


def test_each_is_decided_by_its_own_properties(client):
    resources = {
        "subject": ALICE,
        "action": WRITE,
        "evaluations": [{"resource": ACTIVE}, {"resource": ARCHIVED}],
    }
    subjects = {
        "action": WRITE,
        "resource": ARCHIVED,
        "evaluations": [{"subject": ALICE}, {"subject": ADMIN}],
    }

    assert decisions(client, resources) == [True, False]
    assert decisions(client, subjects) == [False, True]


def test_each_may_say_everything_itself(client):
    assert decisions(client, {"evaluations": [asks(), asks(BOB, WRITE)]}) == [True, False]


def test_a_context_is_inherited_or_overridden(client):
    body = without("resource") | {
        "context": CONTEXT,
        "evaluations": [{"resource": FIRST}, {"resource": FIRST, "context": {"source": "batch-override"}}],
    }

    assert decisions(client, body) == [True, True]


def test_an_empty_item_inherits_everything_and_a_whole_part_overrides(client):
    body = asks(ALICE, WRITE, ACTIVE) | {"evaluations": [{}, {"resource": ARCHIVED}]}

    assert decisions(client, body) == [True, False]


def test_a_part_that_lacks_its_type_has_it_of_the_default(client):
    body = {
        "subject": ALICE,
        "action": WRITE,
        "resource": {"type": "record"},
        "evaluations": [
            {"resource": {"id": "record-1", "properties": {"status": "active"}}},
            {"resource": {"id": "record-2", "properties": {"status": "archived"}}},
        ],
    }

    assert decisions(client, body) == [True, False]


def test_properties_are_never_inherited_by_a_part_of_an_item(client):
    archived = FIRST | {"properties": {"status": "archived"}}
    body = asks(ALICE, WRITE, archived) | {
        "evaluations": [{}, {"resource": FIRST}, {"resource": {"id": "record-1"}}]
    }

    assert decisions(client, body) == [False, True, True]


def test_an_item_that_is_no_evaluation_is_denied_and_the_others_are_answered(client):
    body = without("resource") | {
        "options": {"evaluations_semantic": "execute_all"},
        "evaluations": [{"resource": FIRST}, {}],
    }

    came = client.post(MANY, body)

    assert came.status == 200
    assert came.json["evaluations"][0] == {"decision": True}
    assert came.json["evaluations"][1]["decision"] is False
    assert came.json["evaluations"][1]["context"]["error"]["status"] == 400


def test_a_subject_that_is_missing_everywhere_denies_each(client):
    assert decisions(client, without("subject") | {"evaluations": [{}]}) == [False]


def test_without_evaluations_there_is_one_decision(client):
    assert client.post(MANY, asks()).json == {"decision": True}
    assert client.post(MANY, asks(evaluations=[])).json == {"decision": True}


def test_the_first_denial_ends_it_when_that_is_asked_for(client):
    body = asks(BOB) | {
        "options": {"evaluations_semantic": "deny_on_first_deny"},
        "evaluations": [{}, {"action": WRITE}, {}],
    }

    assert decisions(client, body) == [True, False]


def test_the_first_permit_ends_it_when_that_is_asked_for(client):
    body = asks(BOB) | {
        "options": {"evaluations_semantic": "permit_on_first_permit"},
        "evaluations": [{"action": WRITE}, {}, {"action": WRITE}],
    }

    assert decisions(client, body) == [False, True]


def test_other_options_are_ignored_and_another_semantic_is_400(client):
    body = asks(evaluations=[{}])

    assert decisions(client, body | {"options": {"another_option": "value"}}) == [True]
    assert client.post(MANY, body | {"options": {"evaluations_semantic": "any"}}).status == 400


# --- searches


def test_who_may_read(client):
    plain = {"subject": {"type": "user"}, "action": READ, "resource": FIRST}

    assert found(client, "subject", plain) == ["alice", "bob"]
    assert found(client, "subject", plain | {"context": CONTEXT}) == ["alice", "bob"]
    assert found(client, "subject", plain | {"subject": ALICE}) == ["alice", "bob"]


def test_who_may_write_what_is_archived(client):
    body = {"subject": {"type": "user"}, "action": WRITE, "resource": ARCHIVED}

    assert found(client, "subject", body) == ["bob"]


def test_what_alice_may_read(client):
    plain = {"subject": ALICE, "action": READ, "resource": {"type": "record"}}

    assert found(client, "resource", plain) == ["record-1", "record-2"]
    assert found(client, "resource", plain | {"context": CONTEXT}) == ["record-1", "record-2"]
    assert found(client, "resource", plain | {"resource": FIRST}) == ["record-1", "record-2"]


def test_what_an_admin_may_write(client):
    body = {"subject": ADMIN, "action": WRITE, "resource": {"type": "record"}}

    assert found(client, "resource", body) == ["record-2"]


def test_what_alice_may_do(client):
    plain = {"subject": ALICE, "resource": FIRST}

    assert found(client, "action", plain) == ["read", "write"]
    assert found(client, "action", plain | {"context": CONTEXT}) == ["read", "write"]
    assert found(client, "action", plain | {"action": {"name": 7}}) == ["read", "write"]


def test_what_an_admin_may_do_with_what_is_archived(client):
    assert found(client, "action", {"subject": ADMIN, "resource": ARCHIVED}) == ["read", "write"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_evaluates_to_true(client, kind):
    for subject in (ALICE, BOB, ADMIN):
        for resource in (FIRST, ACTIVE, ARCHIVED):
            for action in (READ, WRITE):
                body = asks(subject, action, resource)
                for name in found(client, kind, body):
                    key = "name" if kind == "action" else "id"
                    assert decision(client, body | {kind: body[kind] | {key: name}}) is True


def test_pages_follow_each_other_to_an_empty_token(client):
    body = {"subject": {"type": "user"}, "action": READ, "resource": FIRST}

    first = client.post("search/subject", body | {"page": {"limit": 1}}).json
    second = client.post("search/subject", body | {"page": {"token": first["page"]["next_token"]}}).json

    assert list(first) == ["page", "results"]
    assert (first["results"], first["page"]["count"]) == ([ALICE], 1)
    assert second == {"page": {"next_token": "", "count": 1}, "results": [BOB]}


def test_a_token_with_another_question_is_400(client):
    body = {"subject": {"type": "user"}, "action": READ, "resource": FIRST}
    token = client.post("search/subject", body | {"page": {"limit": 1}}).json["page"]["next_token"]

    for change in ({"action": WRITE}, {"resource": ACTIVE}, {"context": CONTEXT}):
        assert client.post("search/subject", body | change | {"page": {"token": token}}).status == 400


def test_unknown_fields_of_a_page_are_ignored(client):
    body = {"subject": {"type": "user"}, "action": READ, "resource": FIRST, "page": {"future": True}}

    assert found(client, "subject", body) == ["alice", "bob"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {
            "subject": {"type": "user", "id": "nonexistent-user"},
            "resource": {"type": "record", "id": "record-9"},
        },
        {"subject": {"type": "spaceship", "id": "alice"}},
        {"resource": {"type": "spaceship", "id": "record-1"}},
    ],
    ids=str,
)
def test_nobody_is_an_empty_result_and_no_error(client, kind, change):
    came = client.post(f"search/{kind}", asks() | change)

    assert (came.status, came.json) == (200, {"results": []})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("subject", {"subject": {"type": "user"}, "resource": FIRST}),
        ("resource", {"action": READ, "resource": {"type": "record"}}),
        ("action", {"subject": ALICE}),
        ("subject", {"subject": {"type": "user"}, "action": READ, "resource": {"type": "record"}}),
        ("resource", {"subject": {"type": "user"}, "action": READ, "resource": {"type": "record"}}),
        ("action", {"subject": {"type": "user"}, "resource": FIRST}),
    ],
)
def test_a_search_without_what_it_is_about_is_400(client, kind, body):
    assert client.post(f"search/{kind}", body).status == 400


# --- metadata


def test_the_metadata_name_the_identifier_that_was_addressed_and_every_endpoint(client):
    came = client.send("GET", "/.well-known/authzen-configuration")

    base = f"http://127.0.0.1:{client.sidecar.port}"
    assert (came.status, came.headers["content-type"]) == (200, "application/json")
    assert came.json == {
        "policy_decision_point": base,
        "access_evaluation_endpoint": f"{base}/access/v1/evaluation",
        "access_evaluations_endpoint": f"{base}/access/v1/evaluations",
        "search_subject_endpoint": f"{base}/access/v1/search/subject",
        "search_resource_endpoint": f"{base}/access/v1/search/resource",
        "search_action_endpoint": f"{base}/access/v1/search/action",
    }


def test_behind_a_proxy_the_identifier_is_https(client):
    came = client.send("GET", "/.well-known/authzen-configuration", Host="pdp.example.com")

    assert came.json["policy_decision_point"] == "https://pdp.example.com"
    assert all(url.startswith("https://pdp.example.com") for url in came.json.values())
    assert came.headers["cache-control"] == "no-store"


def test_another_identifier_has_no_metadata(client):
    assert client.send("GET", "/.well-known/authzen-configuration/tenant1").status == 404
