"""AuthZEN's interoperability scenarios, replayed over HTTP: each answer byte for byte, status and type too.

What is asked and what is to come of it are the facts of openid/authzen, `interop/`; the policies are our own,
in tests/authzen.
"""

from __future__ import annotations

import json
from contextlib import contextmanager

import pytest

from tests.api.authzen_server import SCENARIOS, serving_policy

pytestmark = pytest.mark.postgres

pytest.importorskip("regopy", reason="needs the extra `embedded`")

USERS = {
    name: (f"CiRmZD{letter}2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs", email)
    for name, letter, email in (
        ("rick", "A", "rick@the-citadel.com"),
        ("morty", "E", "morty@the-citadel.com"),
        ("summer", "I", "summer@the-smiths.com"),
        ("beth", "M", "beth@the-smiths.com"),
        ("jerry", "Q", "jerry@the-smiths.com"),
    )
}


def ids(text):
    return text.split()


ALL = [str(number) for number in range(101, 121)]
# Who may do what with which records.
RECORDS = {
    ("alice", "view"): ALL,
    ("alice", "edit"): ids("101 107 110 113 119"),
    ("alice", "delete"): ids("101 107 113 119"),
    ("bob", "view"): ids("101 102 103 105 108 112 114 116 117 119 120"),
    ("bob", "edit"): ids("102 108 114 120"),
    ("bob", "delete"): ids("102 108 114 120"),
    ("carol", "view"): ids("101 102 103 105 108 109 112 115 116 117 119"),
    ("carol", "edit"): ids("103 109 115"),
    ("carol", "delete"): ids("103 109 115"),
    ("dan", "view"): ALL,
    ("dan", "edit"): ids("104 110 115 116"),
    ("dan", "delete"): ids("104 110 116"),
    ("erin", "view"): ids("105 111 115 117"),
    ("erin", "edit"): ids("105 111 117"),
    ("erin", "delete"): ids("105 111 117"),
    ("felix", "view"): ids("104 106 109 111 112 114 118 120"),
    ("felix", "edit"): ids("106 112 118"),
    ("felix", "delete"): ids("106 112 118"),
}
PEOPLE, ACTIONS = sorted({who for who, _ in RECORDS}), ["delete", "edit", "view"]


@pytest.fixture(scope="module")
def scenario(database, compiled, tmp_path_factory):
    """Serves one, by its name."""

    @contextmanager
    def started(name):
        folder = tmp_path_factory.mktemp(name)
        with serving_policy(SCENARIOS / name, folder=folder, database=database, compiled=compiled) as client:
            yield client

    return started


def wrong_answers(client, cases):
    """Each case that was not answered with exactly its document, as it would be written."""
    found = []
    for path, body, expected in cases:
        came = client.post(path, body)
        text = json.dumps(expected, separators=(",", ":"))
        if (came.status, came.headers["content-type"], came.text) != (200, "application/json", text):
            found.append((body, came))
    return found


def todo(user, action, *, owner=None, kind="todo", id_="todo-1"):
    resource = {"type": kind, "id": id_} | ({"properties": {"ownerID": owner}} if owner else {})
    return {"subject": {"type": "user", "id": user}, "action": {"name": action}, "resource": resource}


def todo_cases():
    rick, morty = USERS["rick"][1], USERS["morty"][1]
    for name, (user, email) in USERS.items():
        own = morty if name == "rick" else email
        creates, all_of_them = name in {"rick", "morty", "summer"}, name == "rick"
        for body, decision in (
            (todo(user, "can_read_user", kind="user", id_=USERS["beth"][1]), True),
            (todo(user, "can_read_user", kind="user", id_=email), True),
            (todo(user, "can_read_todos"), True),
            (todo(user, "can_create_todo"), creates),
            (todo(user, "can_update_todo", owner=rick), all_of_them),
            (todo(user, "can_update_todo", owner=own), creates),
            (todo(user, "can_delete_todo", owner=rick), all_of_them),
            (todo(user, "can_delete_todo", owner=own), creates),
        ):
            yield "evaluation", body | {"context": {}}, {"decision": decision}
    for name, owners, decisions in (
        ("rick", ("rick", "jerry"), (True, True)),
        ("morty", ("rick", "morty"), (False, True)),
        ("jerry", ("rick", "jerry"), (False, False)),
    ):
        items = [
            {"resource": todo("", "", owner=USERS[owner][1], id_=f"todo-of-{owner}")["resource"]}
            for owner in owners
        ]
        body = {
            "subject": {"type": "user", "id": USERS[name][0]},
            "action": {"name": "can_update_todo"},
            "resource": {},
            "context": {},
            "evaluations": items,
        }
        yield "evaluations", body, {"evaluations": [{"decision": decision} for decision in decisions]}


def test_the_to_do_list(scenario):
    cases = list(todo_cases())
    with scenario("todo") as client:
        wrong = wrong_answers(client, cases)
        nobody = client.post("evaluation", todo("eve", "can_read_todos"))
        searched = client.post("search/resource", todo("eve", "can_read_todos"))
        metadata = client.send("GET", "/.well-known/authzen-configuration")

    assert len(cases) == 43
    assert wrong == []
    assert nobody.json == {"decision": False}
    assert searched.status == 404  # the policy names no candidates, and the metadata say so
    assert list(metadata.json) == [
        "policy_decision_point",
        "access_evaluation_endpoint",
        "access_evaluations_endpoint",
    ]


def named(kind, ids):
    return {"results": [{"type": kind, "id": each} for each in ids]}


def search_cases():
    def body(who=None, action=None, record=None):
        asked = {
            "subject": {"type": "user"} | ({"id": who} if who else {}),
            "action": action and {"name": action},
            "resource": {"type": "record"} | ({"id": record} if record else {}),
        }
        return {part: value for part, value in asked.items() if value}

    for (who, action), records in RECORDS.items():
        yield "search/resource", body(who, action), named("record", records)
    for record in ALL:
        for action in ACTIONS:
            may = [who for who in PEOPLE if record in RECORDS[who, action]]
            yield "search/subject", body(None, action, record), named("user", may)
        for who in PEOPLE:
            names = [{"name": action} for action in ACTIONS if record in RECORDS[who, action]]
            yield "search/action", body(who, None, record), {"results": names}
    yield "search/resource", body("zoe", "view"), {"results": []}
    yield "search/resource", body("alice", "burn"), {"results": []}
    yield "search/subject", body(None, "view", "100"), {"results": []}
    yield "search/action", body("alice", None, "121"), {"results": []}


def pages_of(client):
    body = {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "view"},
        "resource": {"type": "record"},
        "page": {"limit": 8},
    }
    while True:
        answer = client.post("search/resource", body).json
        yield list(answer), [each["id"] for each in answer["results"]]
        if answer["page"]["next_token"] == "":
            return
        body["page"] = {"token": answer["page"]["next_token"]}


def test_the_search(scenario):
    cases = list(search_cases())
    with scenario("search") as client:
        wrong = wrong_answers(client, cases)
        disagreeing = [
            (who, action, record)
            for who in PEOPLE
            for action in ACTIONS
            for answer, record in zip(
                client.post(
                    "evaluations",
                    {
                        "subject": {"type": "user", "id": who},
                        "action": {"name": action},
                        "evaluations": [{"resource": {"type": "record", "id": record}} for record in ALL],
                    },
                ).json["evaluations"],
                ALL,
                strict=True,
            )
            if answer != {"decision": record in RECORDS[who, action]}
        ]
        pages = list(pages_of(client))

    assert len(cases) == 18 + 60 + 120 + 4
    assert wrong == []
    assert disagreeing == []
    assert pages == [(["page", "results"], page) for page in (ALL[:8], ALL[8:16], ALL[16:])]


def test_the_api_gateway(scenario):
    allowed = {
        ("GET", "/users/{userId}"): set(USERS),
        ("GET", "/todos"): set(USERS),
        ("POST", "/todos"): {"rick", "morty", "summer"},
        ("PUT", "/todos/{todoId}"): {"rick", "morty", "summer"},
        ("DELETE", "/todos/{todoId}"): {"rick", "morty", "summer"},
    }
    cases = [
        (
            "evaluation",
            {
                "subject": {"type": "identity", "id": user},
                "action": {"name": method},
                "resource": {"type": "route", "id": route},
                "context": {},
            },
            {"decision": name in who},
        )
        for name, (user, _) in USERS.items()
        for (method, route), who in allowed.items()
    ]
    with scenario("gateway") as client:
        wrong = wrong_answers(client, cases)
        unknown = client.post("evaluation", cases[0][1] | {"action": {"name": "PATCH"}})

    assert len(cases) == 25
    assert wrong == []
    assert unknown.json == {"decision": False}


def test_the_identity_provider(scenario):
    cases = [
        (
            "search/resource",
            {
                "subject": {"type": "user", "id": who},
                "action": {"name": "delete"},
                "resource": {"type": "record"},
            },
            named("record", RECORDS.get((who, "delete"), [])),
        )
        for who in (*PEOPLE, "zoe")
    ]
    with scenario("idp") as client:
        wrong = wrong_answers(client, cases)

    assert len(cases) == 7
    assert wrong == []
