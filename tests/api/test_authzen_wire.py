"""AuthZEN's requests, over our own domain on a stage: what is read, what is refused, what is answered."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import pytest

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.wire import KINDS
from sidecar.errors import EngineUnavailable, FactsUnavailable
from sidecar.identity.callers import ANYBODY
from tests.api.stage import AUDITOR, BACKEND, a_stage
from tests.values import some_facts

SUBJECT = {"type": "user", "id": "adam"}
ACTION = {"name": "platform.use"}
RESOURCE = {"type": "workspace", "id": "acme"}
EVALUATION = {"subject": SUBJECT, "action": ACTION, "resource": RESOURCE}
ONE, MANY = "/access/v1/evaluation", "/access/v1/evaluations"
PATHS = [ONE, MANY, *(f"/access/v1/search/{kind}" for kind in KINDS)]


@pytest.fixture(scope="module")
def stage():
    return a_stage(
        {
            ("adam", "acme"): some_facts(role="admin"),
            ("mia", "acme"): some_facts(role="member"),
            ("sam", "solo"): replace(
                some_facts(role="owner", plan="starter", usage={"minutes": 97}),
                slug="solo",
                workspace_id=UUID("3f2b8a52-2222-4222-8333-444455556666"),
            ),
        }
    )


def of(action=None, user=None, workspace=None, **more):
    item = dict(more)
    if action:
        item["action"] = {"name": action}
    if user:
        item["subject"] = {"type": "user", "id": user}
    if workspace:
        item["resource"] = {"type": "workspace", "id": workspace}
    return item


def ask(stage, path, body, *, token=BACKEND, **options):
    headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
    return stage.client.post(path, json=body, headers=headers, **options)


def decisions(stage, body):
    answer = ask(stage, MANY, body)
    assert answer.status_code == 200, answer.json
    return [each["decision"] for each in answer.json["evaluations"]]


def test_a_grant_is_told_with_our_reason_in_the_context(stage):
    answer = ask(stage, ONE, EVALUATION)

    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert list(answer.json) == ["decision", "context"]
    assert answer.json["decision"] is True
    context = answer.json["context"]
    assert {name: context[name] for name in ("status", "reason", "role", "plan", "workspace")} == {
        "status": 200,
        "reason": "granted",
        "role": "admin",
        "plan": "team",
        "workspace": {"id": "3f2b8a52-1111-4222-8333-444455556666", "slug": "acme"},
    }
    assert context.keys() & {"allow", "reservation"} == set()


def test_a_denial_is_200_and_says_why_and_what_would_change_it(stage):
    answer = ask(stage, ONE, of("analytics.view", user="sam", workspace="solo"))

    assert answer.status_code == 200
    assert answer.json["decision"] is False
    assert (answer.json["context"]["reason"], answer.json["context"]["status"]) == (
        "feature_not_in_plan",
        402,
    )
    assert [offer["plan"] for offer in answer.json["context"]["upgrade"]] == ["pro", "team"]


@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"type": "robot", "id": "adam"}},
        {"resource": {"type": "document", "id": "acme"}},
        {"subject": {"type": "user", "id": "nobody"}},
        {"resource": {"type": "workspace", "id": "nowhere"}},
    ],
    ids=str,
)
def test_what_is_nobody_and_nothing_here_is_denied_as_a_stranger_is(stage, change):
    answer = ask(stage, ONE, EVALUATION | change)

    assert (answer.status_code, answer.json["decision"]) == (200, False)
    assert answer.json["context"]["reason"] == "not_a_member"
    assert answer.json["context"].keys() & {"role", "plan", "quota", "needs", "upgrade"} == set()


def test_an_action_that_is_not_declared_is_denied(stage):
    answer = ask(stage, ONE, EVALUATION | {"action": {"name": "no.such"}})

    assert (answer.json["decision"], answer.json["context"]["reason"]) == (False, "unknown_action")


@pytest.mark.parametrize(
    "claimed",
    [{"role": "owner", "roles": ["owner"]}, {"plan": "team"}, {"status": "active"}, {"member": True}],
    ids=str,
)
def test_what_a_request_says_of_itself_is_never_believed(stage, claimed):
    for user, workspace, action, reason in (
        ("mia", "acme", "billing.manage", "role_insufficient"),
        ("sam", "solo", "analytics.view", "feature_not_in_plan"),
        ("eve", "acme", "platform.use", "not_a_member"),
    ):
        asked = {part: named | {"properties": claimed} for part, named in of(action, user, workspace).items()}
        answer = ask(stage, ONE, asked | {"context": claimed}).json
        assert (answer["decision"], answer["context"]["reason"]) == (False, reason)


@pytest.mark.parametrize(
    ("amounts", "decision"), [({"minutes": 3}, True), ({"minutes": 4}, False), (None, True)], ids=str
)
@pytest.mark.parametrize("where", ["action", "context"])
def test_how_much_is_to_be_taken_may_stand_with_the_action_or_in_the_context(stage, where, amounts, decision):
    body = of("recording.start", user="sam", workspace="solo")
    if where == "action":
        body["action"] = {"name": "recording.start", "properties": {"amounts": amounts}}
        body["context"] = {"amounts": {"minutes": 99}} if amounts else {}
    else:
        body["context"] = {"amounts": amounts}

    assert ask(stage, ONE, body).json["decision"] is decision


@pytest.mark.parametrize(
    ("amounts", "code", "below"),
    [
        ({"minutes": "5"}, "invalid_request", "/minutes"),
        ({"minutes": 0}, "invalid_request", "/minutes"),
        ({"minutes": 1.0}, "invalid_request", "/minutes"),
        ([], "invalid_request", ""),
        ({"seats": 1}, "meter_not_taken", "/seats"),
    ],
    ids=str,
)
@pytest.mark.parametrize("where", ["action", "context"])
def test_amounts_that_are_none_are_refused_where_they_stand(stage, where, amounts, code, below):
    at = {"action": "/action/properties", "context": "/context"}[where]
    change = of("recording.start") | {"context": {"amounts": amounts}}
    if where == "action":
        change = {"action": {"name": "recording.start", "properties": {"amounts": amounts}}}
    body = EVALUATION | change

    one = ask(stage, ONE, body)
    many = ask(stage, MANY, {"evaluations": [body, EVALUATION]})

    assert (one.status_code, one.json["code"]) == (400, code)
    assert [error["pointer"] for error in one.json["errors"]] == [f"{at}/amounts{below}"]
    bad, good = many.json["evaluations"]
    assert (many.status_code, bad["decision"], good["decision"]) == (200, False, True)
    assert bad["context"]["error"]["status"] == 400
    assert bad["context"]["error"]["message"].startswith(f"/evaluations/0{at}/amounts{below}: ")


def test_nothing_is_taken(stage):
    body = EVALUATION | {"action": {"name": "recording.start", "properties": {"mode": "consume"}}}

    answers = [ask(stage, ONE, body).json["context"] for _ in range(3)]

    assert [answer["quota"]["minutes"]["used"] for answer in answers] == [0, 0, 0]
    assert [line["mode"] for line in stage.lines[-3:]] == ["check"] * 3


@pytest.mark.parametrize("path", PATHS)
def test_a_caller_needs_the_scope_and_is_told_how_to_prove_themselves(stage, path):
    without = stage.client.post(path, json=EVALUATION)
    wrong = stage.client.post(path, json=EVALUATION, headers={"Authorization": "undefined"})
    other = ask(stage, path, EVALUATION, token=AUDITOR)

    assert [each.status_code for each in (without, wrong, other)] == [401, 401, 403]
    assert without.headers["WWW-Authenticate"].startswith("Bearer")
    assert wrong.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("outage", ["engine", "facts"])
def test_an_outage_is_503_and_no_decision(path, outage):
    stage = a_stage()
    if outage == "engine":
        stage.engine.outage = EngineUnavailable("slow")
    else:
        stage.facts.outage = FactsUnavailable("down")

    answer = ask(stage, path, EVALUATION | ({"evaluations": [{}, {}]} if path == MANY else {}))

    assert answer.status_code == 503
    assert answer.json.keys() & {"decision", "evaluations", "results"} == set()


UNKNOWN = {"foo": "bar", "future": {"nested": [1, {"x": None}]}}


def test_what_is_unknown_is_not_looked_at_at_any_level(stage):
    body = {
        "subject": SUBJECT | UNKNOWN,
        "action": ACTION | UNKNOWN,
        "resource": RESOURCE | UNKNOWN,
        **UNKNOWN,
    }
    many = body | {"evaluations": [UNKNOWN], "options": UNKNOWN}

    assert ask(stage, ONE, body).json["decision"] is True
    assert decisions(stage, many) == [True]
    for kind in KINDS:
        answer = ask(stage, f"/access/v1/search/{kind}", body | {"page": UNKNOWN})
        assert (answer.status_code, len(answer.json["results"]) > 0) == (200, True)


def test_an_optional_field_may_be_null(stage):
    nothing = {"properties": None}
    body = {
        "subject": SUBJECT | nothing,
        "action": ACTION | nothing,
        "resource": RESOURCE | nothing,
        "context": None,
    }

    assert ask(stage, ONE, body).json["decision"] is True
    assert ask(stage, MANY, body | {"evaluations": None, "options": None}).json["decision"] is True
    assert decisions(stage, body | {"evaluations": [{"subject": None, "context": None}]}) == [True]
    assert decisions(stage, body | {"evaluations": [{}], "options": {"evaluations_semantic": None}}) == [True]
    for kind in KINDS:
        path = f"/access/v1/search/{kind}"
        assert ask(stage, path, body | {"page": None}).status_code == 200
        assert ask(stage, path, body | {"page": {"token": None, "limit": None}}).status_code == 200


REFUSED = {
    "no subject": ({"subject": None}, "/subject"),
    "no action": ({"action": None}, "/action"),
    "no resource": ({"resource": None}, "/resource"),
    "no type of the subject": ({"subject": {"id": "adam"}}, "/subject/type"),
    "no id of the subject": ({"subject": {"type": "user"}}, "/subject/id"),
    "no id but null": ({"subject": {"type": "user", "id": None}}, "/subject/id"),
    "no name": ({"action": {}}, "/action/name"),
    "no type of the resource": ({"resource": {"id": "acme"}}, "/resource/type"),
    "no id of the resource": ({"resource": {"type": "workspace"}}, "/resource/id"),
    "a subject in one word": ({"subject": "adam"}, "/subject"),
    "a subject in a list": ({"subject": [SUBJECT]}, "/subject"),
    "a number for a name": ({"action": {"name": 123}}, "/action/name"),
    "a number for an id": ({"resource": {"type": "workspace", "id": 7}}, "/resource/id"),
    "an empty id": ({"subject": {"type": "user", "id": ""}}, "/subject/id"),
    "a NUL": ({"subject": {"type": "user", "id": "a\0"}}, "/subject/id"),
    "half of a pair": ({"subject": {"type": "user", "id": "\ud800"}}, "/subject/id"),
    "an id without an end": ({"subject": {"type": "user", "id": "a" * 1_025}}, "/subject/id"),
    "properties in a list": ({"subject": SUBJECT | {"properties": []}}, "/subject/properties"),
    "a context in one word": ({"context": "here"}, "/context"),
    "a context in the dark": ({"context": {"x": "\0"}}, "/context/x"),
}


@pytest.mark.parametrize(("change", "pointer"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_evaluation_is_400_alone_and_a_denial_among_others(stage, change, pointer):
    body = EVALUATION | change
    first = {name: value for name, value in body.items() if value is not None}

    one = ask(stage, ONE, body)
    many = ask(stage, MANY, {"evaluations": [first, EVALUATION]})

    assert (one.status_code, one.json["code"]) == (400, "invalid_request")
    assert [error["pointer"] for error in one.json["errors"]] == [pointer]
    bad, good = many.json["evaluations"]
    assert (many.status_code, bad["decision"], good["decision"]) == (200, False, True)
    assert bad["context"]["error"]["status"] == 400
    assert bad["context"]["error"]["message"].startswith(f"/evaluations/0{pointer}: ")


def test_a_context_may_be_deep_but_not_without_end(stage):
    def nested(levels):
        return {"x": nested(levels - 1)} if levels else {}

    assert ask(stage, ONE, EVALUATION | {"context": nested(31)}).status_code == 200
    assert ask(stage, ONE, EVALUATION | {"context": nested(32)}).status_code == 400


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", ["[]", '"x"', "7", "null", "", "{", '{"subject": NaN}', "\xff"])
def test_a_body_that_is_no_object_is_400(stage, path, body):
    answer = stage.client.post(
        path,
        data=body.encode("latin-1"),
        content_type="application/json",
        headers={"Authorization": f"Bearer {BACKEND}"},
    )

    assert answer.status_code == 400
    assert "decision" not in answer.json


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("content_type", ["text/plain", "application/xml", "", "application/jsonp"])
def test_a_body_of_another_type_is_400(stage, path, content_type):
    answer = ask(stage, path, None, data=json.dumps(EVALUATION), content_type=content_type)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("path", PATHS)
def test_the_charset_may_be_said(stage, path):
    answer = ask(
        stage, path, None, data=json.dumps(EVALUATION), content_type="application/json; charset=UTF-8"
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("where", ["", "subject", "context"])
def test_a_name_that_is_there_twice_is_400(stage, where):
    text = json.dumps(EVALUATION | {"context": {}})
    twice = {
        "": text.replace('{"subject"', '{"subject": {}, "subject"'),
        "subject": text.replace('{"type": "user"', '{"id": "eve", "type": "user"'),
        "context": text.replace('"context": {}', '"context": {"a": 1, "a": 2}'),
    }[where]

    assert twice != text
    assert ask(stage, ONE, None, data=twice, content_type="application/json").status_code == 400
    assert (
        ask(stage, MANY, None, data=f'{{"evaluations": [{twice}]}}', content_type="application/json").json[
            "evaluations"
        ][0]["decision"]
        is False
    )


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_only_post_asks(stage, path, method):
    assert stage.client.open(path, method=method).status_code in {404, 405}


@pytest.mark.parametrize("sent", ["bfe9eb29-ab87-4ca3", 'a "b" ; <c>', "x" * 4_000, "ä", "with\ttab", "{}"])
@pytest.mark.parametrize("body", [EVALUATION, {}])
def test_the_request_id_is_given_back_as_it_came_whatever_comes_of_it(stage, sent, body):
    answer = ask(stage, ONE, body, headers={"X-Request-ID": sent})

    assert answer.status_code == (200 if body else 400)
    assert answer.headers["X-Request-ID"] == sent
    assert stage.lines[-1]["request_id"] == sent


def test_without_a_request_id_there_is_one_all_the_same(stage):
    assert len(ask(stage, ONE, EVALUATION).headers["X-Request-ID"]) == 32


# --- many at once


def test_without_evaluations_there_is_one_and_its_answer_is_a_decision(stage):
    for body in (dict(EVALUATION), {**EVALUATION, "evaluations": []}):
        answer = ask(stage, MANY, body)

        assert (answer.status_code, list(answer.json)) == (200, ["decision", "context"])
    assert ask(stage, MANY, {"evaluations": []}).status_code == 400


def test_answers_come_in_order_and_there_is_no_decision_above_them(stage):
    body = EVALUATION | {"evaluations": [of("billing.manage"), of("members.invite"), of("no.such"), {}]}

    answer = ask(stage, MANY, body)

    assert list(answer.json) == ["evaluations"]
    assert [each["decision"] for each in answer.json["evaluations"]] == [False, True, False, True]
    assert [each["context"]["reason"] for each in answer.json["evaluations"]] == [
        "role_insufficient",
        "granted",
        "unknown_action",
        "granted",
    ]


def test_an_item_overrides_a_default_whole(stage):
    body = {
        "subject": SUBJECT | {"properties": {"x": 1}},
        "action": {"name": "recording.start", "properties": {"amounts": {"minutes": 2_000}}},
        "resource": RESOURCE,
        "evaluations": [{}, of("recording.start"), of("recording.start", user="mia")],
    }

    assert decisions(stage, body) == [False, True, True]


def test_what_an_item_lacks_to_be_known_by_it_has_of_the_default_but_never_its_properties(stage):
    body = {
        "subject": {"type": "user"},
        "resource": {"type": "workspace"},
        "action": {"name": "recording.start", "properties": {"amounts": {"minutes": 2_000}}},
        "evaluations": [
            {"subject": {"id": "adam"}, "resource": {"id": "acme"}},
            {"subject": {"id": "adam"}, "resource": {"id": "acme"}, "action": {}},
            {"subject": {"id": "adam"}, "resource": {"id": "acme"}, "action": {"properties": {}}},
            {"subject": {"type": "robot", "id": "adam"}, "resource": {"id": "acme"}, "action": {}},
        ],
    }

    assert decisions(stage, body) == [False, True, True, False]


def test_a_context_is_inherited_until_it_is_overridden(stage):
    body = EVALUATION | {
        "action": {"name": "recording.start"},
        "context": {"amounts": {"minutes": 2_000}},
        "evaluations": [{}, {"context": {}}, {"context": {"amounts": {"minutes": 1}}}],
    }

    assert decisions(stage, body) == [False, True, True]


def test_a_default_that_no_item_needs_may_be_incomplete(stage):
    defaults = {"resource": {}, "subject": {"id": "eve"}}

    assert decisions(stage, defaults | {"evaluations": [EVALUATION]}) == [True]


def test_what_is_missing_everywhere_is_missing_in_each_item(stage):
    body = {"action": ACTION, "resource": RESOURCE, "evaluations": [{}, of(user="adam"), "x", None, []]}

    answer = ask(stage, MANY, body)

    assert answer.status_code == 200
    assert [each["decision"] for each in answer.json["evaluations"]] == [False, True, False, False, False]
    assert (
        answer.json["evaluations"][0]["context"]["error"]["message"] == "/evaluations/0/subject: is required"
    )


GRANTED, DENIED, BROKEN = of("platform.use"), of("billing.manage"), {"action": {"name": 7}}


@pytest.mark.parametrize(
    ("semantic", "items", "expected"),
    [
        ("execute_all", [GRANTED, DENIED, GRANTED], [True, False, True]),
        ("execute_all", [BROKEN, GRANTED], [False, True]),
        ("deny_on_first_deny", [GRANTED, DENIED, GRANTED], [True, False]),
        ("deny_on_first_deny", [GRANTED, BROKEN, GRANTED], [True, False]),
        ("deny_on_first_deny", [DENIED, DENIED], [False]),
        ("deny_on_first_deny", [GRANTED, GRANTED], [True, True]),
        ("permit_on_first_permit", [DENIED, GRANTED, DENIED], [False, True]),
        ("permit_on_first_permit", [BROKEN, GRANTED, GRANTED], [False, True]),
        ("permit_on_first_permit", [GRANTED, DENIED], [True]),
        ("permit_on_first_permit", [DENIED, DENIED], [False, False]),
    ],
)
def test_a_semantic_ends_the_answers_where_it_is_met(stage, semantic, items, expected):
    before = len(stage.lines)
    body = EVALUATION | {"evaluations": items, "options": {"evaluations_semantic": semantic}}

    assert decisions(stage, body) == expected
    assert len(stage.lines) - before == len(expected)


@pytest.mark.parametrize(
    "change",
    [
        {"options": {"evaluations_semantic": "deny_on_second_deny"}},
        {"options": {"evaluations_semantic": 1}},
        {"options": []},
        {"options": "execute_all"},
        {"evaluations": {}},
        {"evaluations": "x"},
        {"evaluations": [{}] * 1_001},
        {"subject": "adam"},
        {"context": []},
    ],
    ids=lambda change: str(change)[:60],
)
def test_what_is_wrong_with_all_of_it_is_400(stage, change):
    answer = ask(stage, MANY, EVALUATION | {"evaluations": [{}]} | change)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")


def test_a_thousand_are_answered_with_one_read_of_facts(stage):
    answer = decisions(stage, EVALUATION | {"evaluations": [{}] * 1_000})

    assert answer == [True] * 1_000


# --- searches


def test_who_may(stage):
    body = {"subject": {"type": "user"}, "action": {"name": "members.invite"}, "resource": RESOURCE}

    answer = ask(stage, "/access/v1/search/subject", body)

    assert answer.get_data(as_text=True) == '{"results":[{"type":"user","id":"adam"}]}'


def test_where_they_may(stage):
    body = {"subject": SUBJECT, "action": ACTION, "resource": {"type": "workspace"}}

    answer = ask(stage, "/access/v1/search/resource", body)

    assert answer.get_data(as_text=True) == '{"results":[{"type":"workspace","id":"acme"}]}'


def test_what_they_may(stage):
    answer = ask(stage, "/access/v1/search/action", of(user="sam", workspace="solo"))

    assert {tuple(each) for each in answer.json["results"]} == {("name",)}
    assert [each["name"] for each in answer.json["results"]] == [
        "billing.manage",
        "data.view_own",
        "members.change_role",
        "members.invite",
        "members.remove",
        "platform.use",
        "recording.start",
        "roleplay.start",
        "scenarios.create",
        "workspace.delete",
        "workspace.update",
    ]


def test_what_is_to_be_taken_counts_in_a_search_too(stage):
    def found(kind, minutes):
        body = of("recording.start", user="sam", workspace="solo", context={"amounts": {"minutes": minutes}})
        return [
            list(each.values())[-1] for each in ask(stage, f"/access/v1/search/{kind}", body).json["results"]
        ]

    assert [found(kind, 3) for kind in KINDS] == [["sam"], ["solo"], ["recording.start"]]
    assert [found(kind, 4) for kind in KINDS] == [[], [], []]


@pytest.mark.parametrize("kind", ["subject", "resource"])
def test_amounts_of_what_the_action_does_not_take_are_400_in_a_search_too(stage, kind):
    body = EVALUATION | {"context": {"amounts": {"minutes": 4}}}

    answer = ask(stage, f"/access/v1/search/{kind}", body)

    assert (answer.status_code, answer.json["code"]) == (400, "meter_not_taken")
    assert answer.json["errors"][0]["pointer"] == "/context/amounts/minutes"


@pytest.mark.parametrize("kind", KINDS)
def test_the_name_of_what_is_searched_for_is_not_looked_at(stage, kind):
    named = ask(stage, f"/access/v1/search/{kind}", EVALUATION).json
    other = dict(EVALUATION[kind]) | {"id": 7, "name": [None]}

    assert ask(stage, f"/access/v1/search/{kind}", EVALUATION | {kind: other}).json == named
    assert len(named["results"]) > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"type": "spaceship", "id": "adam"}},
        {"resource": {"type": "spaceship", "id": "acme"}},
        {"subject": {"type": "user", "id": "nobody"}, "resource": {"type": "workspace", "id": "nowhere"}},
    ],
    ids=str,
)
def test_nobody_and_nothing_is_found_where_there_is_none(stage, kind, change):
    answer = ask(stage, f"/access/v1/search/{kind}", EVALUATION | change)

    assert (answer.status_code, answer.json) == (200, {"results": []})


@pytest.mark.parametrize(
    ("kind", "without"),
    [
        ("subject", "action"),
        ("subject", "resource"),
        ("subject", "subject"),
        ("resource", "subject"),
        ("resource", "action"),
        ("resource", "resource"),
        ("action", "subject"),
        ("action", "resource"),
    ],
)
def test_a_search_without_what_it_is_about_is_400(stage, kind, without):
    body = {name: value for name, value in EVALUATION.items() if name != without}
    nameless = EVALUATION | {without: {"type": EVALUATION[without].get("type")}}

    assert ask(stage, f"/access/v1/search/{kind}", body).status_code == 400
    assert ask(stage, f"/access/v1/search/{kind}", nameless).status_code == (200 if kind == without else 400)


@pytest.mark.parametrize(
    "page", [{"limit": -1}, {"limit": 1.5}, {"limit": "1"}, {"limit": True}, {"token": 7}, [], "x"], ids=str
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_is_none_is_400(stage, kind, page):
    assert ask(stage, f"/access/v1/search/{kind}", EVALUATION | {"page": page}).status_code == 400


def test_a_limit_may_be_larger_than_any_page(stage):
    answer = ask(stage, "/access/v1/search/action", EVALUATION | {"page": {"limit": 2**53 - 1}})

    assert answer.json["page"] == {"next_token": "", "count": len(answer.json["results"])}
    assert list(answer.json) == ["page", "results"]


@pytest.mark.parametrize("kind", KINDS)
def test_amounts_that_are_none_are_400_in_a_search_too(stage, kind):
    body = of("recording.start", user="sam", workspace="solo", context={"amounts": {"minutes": "all"}})

    answer = ask(stage, f"/access/v1/search/{kind}", body)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["errors"][0]["pointer"] == "/context/amounts/minutes"


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [(ONE, 60_000, 200), (ONE, 70_000, 413), (MANY, 70_000, 200), (MANY, 1_100_000, 413)],
)
def test_a_body_has_a_largest_size(stage, path, size, status):
    assert ask(stage, path, EVALUATION | {"context": {"x": "x" * size}}).status_code == status


# --- metadata


WELL_KNOWN = "/.well-known/authzen-configuration"


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("pdp.example.com", "https://pdp.example.com"),
        ("pdp.example.com:8443", "https://pdp.example.com:8443"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost", "http://localhost"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("[2001:db8::1]", "https://[2001:db8::1]"),
    ],
)
def test_without_an_identifier_it_is_what_the_client_has_addressed(stage, host, base):
    came = stage.client.get(WELL_KNOWN, headers={"Host": host})

    assert (came.status_code, came.content_type) == (200, "application/json")
    assert came.json["policy_decision_point"] == base
    assert came.json["access_evaluation_endpoint"] == f"{base}/access/v1/evaluation"
    assert came.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["a/b", "a b", "a@b", "a?b", "", "[::1", "a:b"])
def test_a_host_that_is_none_is_400(stage, host):
    assert stage.client.get(WELL_KNOWN, headers={"Host": host}).status_code == 400


def test_an_identifier_is_told_where_it_leads_and_nowhere_else():
    domain = a_stage().service.authzen.domain
    for url, path, other in (
        ("https://pdp.example.com", WELL_KNOWN, f"{WELL_KNOWN}/tenant1"),
        ("https://pdp.example.com/tenant1", f"{WELL_KNOWN}/tenant1", WELL_KNOWN),
    ):
        stage = a_stage(authzen=Authzen(domain=domain, url=url))
        came = stage.client.get(path, headers={"Host": "evil.example"})

        assert came.json["policy_decision_point"] == url
        assert {name: each for name, each in came.json.items() if not each.startswith(url)} == {}
        assert came.headers["Cache-Control"] == "max-age=300"
        assert stage.client.get(other).status_code == 404


def test_in_a_conformance_run_anybody_asks_and_nobody_else_anything_else():
    domain = a_stage().service.authzen.domain
    stage = a_stage(authzen=Authzen(domain=domain, anybody=ANYBODY))

    for headers in ({}, {"Authorization": f"Bearer {BACKEND}"}, {"Authorization": BACKEND}):
        assert stage.client.post(ONE, json=EVALUATION, headers=headers).status_code == 200
    assert [line["caller"] for line in stage.lines] == ["anybody", "backend", "backend"]
    assert stage.client.post(ONE, json=EVALUATION, headers={"Authorization": "undefined"}).status_code == 401
    assert stage.client.post("/v1/authorize", json={}).status_code == 401
    assert stage.client.get("/metrics").status_code == 401
