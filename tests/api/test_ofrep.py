"""Feature flags by OFREP: what is answered about whom, to whom, and in which words it is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.api.ofrep import endpoints
from sidecar.api.ofrep.flags import keys_of
from sidecar.errors import IdentityUnavailable, LogUnavailable
from sidecar.identity.users import FixedKeys, Identities, key_set_of_secret
from tests.api.stage import BACKEND, OPS, REVISION, a_stage
from tests.api.test_http import OUTAGES, bearer
from tests.api.test_openapi import check
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.values import WORKSPACE_ID, some_facts, the_catalog

FLAGS = "/ofrep/v1/evaluate/flags"
IDENTITIES = Identities(FixedKeys(key_set_of_secret(SECRET.encode())), audience=AUDIENCE, issuer=ISSUER)
MEMBERS = {
    ("sam", "solo"): some_facts(role="owner", plan="starter"),
    ("mia", "acme"): some_facts(role="member", plan="team"),
    ("pia", "piano"): some_facts(
        plan="pro",
        feature_overrides={"analytics": False, "team_sessions": True, "video_avatar": True},
        limit_overrides={"minutes": None, "members": 3},
    ),
    ("sue", "shut"): some_facts(role="owner", plan="pro", status="suspended"),
    ("old", "past"): some_facts(plan="gone"),
}


def a_flags_stage(**more):
    return a_stage(MEMBERS, identities=IDENTITIES, **more)


def evaluate(stage, user, workspace, key=None, *, token=BACKEND, **headers):
    return stage.client.post(
        FLAGS if key is None else f"{FLAGS}/{key}",
        json={"context": {"targetingKey": user, "workspace": workspace}},
        headers=bearer(token) | {name.replace("_", "-"): value for name, value in headers.items()},
    )


def flags_of(stage, user, workspace, **more):
    return {flag["key"]: flag for flag in evaluate(stage, user, workspace, **more).json["flags"]}


def short(flags):
    return {
        key: (flag.get("value"), flag["reason"], flag["variant"], flag["metadata"].get("unlocked_by"))
        for key, flag in flags.items()
    }


def test_every_feature_the_plan_the_role_and_the_limits_are_flags():
    answer = evaluate(a_flags_stage(), "sam", "solo")

    check(answer.json, "Flags")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.json["metadata"] == {"policy_revision": REVISION}
    assert short({flag["key"]: flag for flag in answer.json["flags"]}) == {
        "scenario_builder": (True, "TARGETING_MATCH", "plan:starter", ""),
        "video_avatar": (False, "DISABLED", "plan:starter", "pro,team"),
        "live_coaching": (False, "DISABLED", "plan:starter", "pro,team"),
        "analytics": (False, "DISABLED", "plan:starter", "pro,team"),
        "team_sessions": (False, "DISABLED", "plan:starter", "team"),
        "team_analytics": (False, "DISABLED", "plan:starter", "team"),
        "plan": ("starter", "TARGETING_MATCH", "plan:starter", None),
        "role": ("owner", "TARGETING_MATCH", "role:owner", None),
        "limit:minutes": (100, "TARGETING_MATCH", "plan:starter", None),
        "limit:members": (1, "TARGETING_MATCH", "plan:starter", None),
        "limit:scenarios": (10, "TARGETING_MATCH", "plan:starter", None),
    }
    assert {flag["metadata"]["policy_revision"] for flag in answer.json["flags"]} == {REVISION}


@pytest.mark.parametrize(("user", "workspace"), [*MEMBERS, ("zoe", "solo"), ("zoe", "nowhere")])
def test_one_flag_is_what_it_is_among_all(user, workspace):
    stage = a_flags_stage()
    flags = flags_of(stage, user, workspace)

    assert tuple(flags) == keys_of(the_catalog())
    for key, flag in flags.items():
        answer = evaluate(stage, user, workspace, key.replace(":", "%3A"))
        check(answer.json, "Flag")
        assert (answer.status_code, answer.json) == (200, flag)
        assert evaluate(stage, user, workspace, key).json == flag


def test_an_override_tells_so_and_what_is_unlimited_is_minus_one():
    flags = flags_of(a_flags_stage(), "pia", "piano")

    assert short(flags) | {"limit:scenarios": None} == short(flags) | {
        "scenario_builder": (True, "TARGETING_MATCH", "plan:pro", ""),
        "video_avatar": (True, "TARGETING_MATCH", "override:on", ""),
        "analytics": (False, "DISABLED", "override:off", ""),
        "team_sessions": (True, "TARGETING_MATCH", "override:on", ""),
        "team_analytics": (False, "DISABLED", "plan:pro", "team"),
        "limit:minutes": (-1, "TARGETING_MATCH", "override:unlimited", None),
        "limit:members": (3, "TARGETING_MATCH", "override:3", None),
        "limit:scenarios": None,
    }
    assert [
        flags[f"limit:{meter}"]["metadata"]["unlimited"] for meter in ("minutes", "members", "scenarios")
    ] == [
        True,
        False,
        True,
    ]
    assert flags["limit:scenarios"]["value"] == -1


def test_bought_seats_are_the_limit_and_say_so():
    bought = some_facts(plan="team")
    stage = a_stage({("mia", "acme"): replace(bought, seats={"members": 25})})

    flag = flags_of(stage, "mia", "acme")["limit:members"]

    assert (flag["value"], flag["variant"]) == (25, "seats:25")


def test_nothing_is_on_in_a_suspended_workspace_which_still_has_its_plan():
    flags = short(flags_of(a_flags_stage(), "sue", "shut"))

    features = {flags[feature] for feature in the_catalog().features}
    assert features == {(False, "DISABLED", "workspace_suspended", "")}
    assert flags["plan"] == ("pro", "TARGETING_MATCH", "plan:pro", None)


def test_a_rule_of_the_companys_own_is_a_variant():
    stage = a_flags_stage()
    verdict = stage.engine.verdict

    def scripted(situation, /, *, deadline):
        found = verdict(situation, deadline=deadline)
        return replace(found, allow=False, reason="denied_by_policy", status=403, detail="no", charges={})

    stage.engine.verdict = scripted

    assert {short(flags_of(stage, "mia", "acme"))[feature] for feature in the_catalog().features} == {
        (False, "DISABLED", "denied_by_policy", "")
    }


def test_a_plan_that_is_not_declared_has_no_limit_but_nothing():
    flags = flags_of(a_flags_stage(), "old", "past")

    assert (flags["plan"]["value"], flags["limit:minutes"]["value"]) == ("gone", 0)


def test_a_stranger_gets_the_defaults_whether_the_workspace_exists_or_not():
    stage = a_flags_stage()
    answers = [evaluate(stage, "zoe", workspace) for workspace in ("solo", "nowhere", str(WORKSPACE_ID))]
    flags = {flag["key"]: flag for flag in answers[0].json["flags"]}

    assert {answer.status_code for answer in answers} == {200}
    assert {(answer.data, answer.headers["ETag"]) for answer in answers} == {
        (answers[0].data, answers[0].headers["ETag"])
    }
    for key, flag in flags.items():
        is_feature = key in the_catalog().features
        assert (flag["reason"], flag["variant"]) == ("DISABLED", "not_a_member")
        assert ("value" in flag, flag.get("value")) == ((True, False) if is_feature else (False, None))
    assert stage.lines[-1]["workspace_id"] is None


MISSING, CONTEXT, PARSE = "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "PARSE_ERROR"


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        (b"{}", MISSING, "/context is required"),
        (b'{"context": null}', MISSING, "/context is required"),
        (b'{"context": {}}', MISSING, "/context/targetingKey is required"),
        (b'{"context": {"targetingKey": null, "workspace": "solo"}}', MISSING, "/context/targetingKey"),
        (b'{"context": {"targetingKey": "sam"}}', CONTEXT, "/context/workspace is required"),
        (b'{"context": {"targetingKey": "sam", "workspace": null}}', CONTEXT, "/context/workspace"),
        (b'{"context": {"targetingKey": "sam", "workspace": ""}}', CONTEXT, "must not be empty"),
        (b'{"context": {"targetingKey": "", "workspace": "solo"}}', CONTEXT, "must not be empty"),
        (b'{"context": {"targetingKey": 5, "workspace": "solo"}}', CONTEXT, "expected text, got 5"),
        (
            b'{"context": {"targetingKey": "sam", "workspace": ["solo"]}}',
            CONTEXT,
            "expected text, got a list",
        ),
        (
            b'{"context": {"targetingKey": "sam", "workspace": "solo", "workspace": "x"}}',
            CONTEXT,
            "more than once",
        ),
        (b'{"context": "sam"}', CONTEXT, "expected an object"),
        (b"[]", PARSE, "the body expected an object"),
        (b'"sam"', PARSE, "the body expected an object"),
        (b"", PARSE, ""),
        (b"{", PARSE, ""),
        (b'{"context": NaN}', PARSE, ""),
    ],
)
@pytest.mark.parametrize("key", [None, "plan"])
def test_a_body_that_is_no_context_is_told_so_in_words_of_ofrep(body, code, told, key):
    answer = a_flags_stage().client.post(
        FLAGS if key is None else f"{FLAGS}/{key}",
        data=body,
        headers=bearer(BACKEND) | {"Content-Type": "application/json"},
    )

    check(answer.json, "FlagFailure")
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/json")
    assert (answer.json["errorCode"], answer.json.get("key")) == (code, key)
    assert told in answer.json["errorDetails"]
    assert answer.json["errorDetails"]


def test_what_else_the_context_has_is_ignored():
    context = {
        "targetingKey": "sam",
        "workspace": "solo",
        "email": "s@x",
        "deep": [[{"a": None}]],
        "plan": "pro",
    }

    answer = a_flags_stage().client.post(
        f"{FLAGS}/plan", json={"context": context, "more": 1}, headers=bearer(BACKEND)
    )

    assert (answer.status_code, answer.json["value"]) == (200, "starter")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"Content-Type": "text/plain"}, b"{}", 415),
        ({"Content-Type": "application/json"}, b'{"context": "%b"}' % (b"x" * 70_000), 413),
    ],
)
def test_a_body_that_is_not_read_keeps_its_status(headers, body, status):
    answer = a_flags_stage().client.post(FLAGS, data=body, headers=bearer(BACKEND) | headers)

    assert (answer.status_code, answer.json["errorCode"]) == (status, "PARSE_ERROR")


@pytest.mark.parametrize(
    ("key", "named", "told"),
    [
        ("video_avtar", "video_avtar", 'did you mean "video_avatar"?'),
        ("limit%3Aminuts", "limit:minuts", 'did you mean "limit:minutes"?'),
        ("a%2Fb%22", 'a/b"', "There is no flag"),
        ("feature%3Aanalytics", "feature:analytics", "There is no flag"),
    ],
)
def test_a_flag_that_is_not_there_is_a_404_that_names_the_nearest(key, named, told):
    answer = evaluate(a_flags_stage(), "sam", "solo", key)

    check(answer.json, "FlagFailure")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/json")
    assert (answer.json["key"], answer.json["errorCode"]) == (named, "FLAG_NOT_FOUND")
    assert told in answer.json["errorDetails"]


def test_what_an_event_stream_would_have_told_is_taken_and_other_parameters_are_not():
    client = a_flags_stage().client
    body = {"context": {"targetingKey": "sam", "workspace": "solo"}}

    def asked(path):
        return client.post(path, json=body, headers=bearer(BACKEND))

    assert asked(f"{FLAGS}?flagConfigEtag=x&flagConfigLastModified=1771622898").status_code == 200
    for path in (f"{FLAGS}?x=1", f"{FLAGS}/plan?x=1"):
        assert (asked(path).status_code, asked(path).json["errorCode"]) == (400, "GENERAL")


def test_users_may_ask_about_themselves_alone():
    stage = a_flags_stage()
    own = a_token(sub="sam")

    assert flags_of(stage, "sam", "solo", token=own) == flags_of(stage, "sam", "solo")
    assert stage.lines[-2]["end_user"] == "sam"
    assert "end_user" not in stage.lines[-1]
    for answer in (
        evaluate(stage, "mia", "acme", token=own),
        evaluate(stage, "mia", "acme", "plan", token=own),
        evaluate(stage, "mia", "acme", "no_such_flag", token=own),
    ):
        assert (answer.status_code, answer.json["code"]) == (403, "another_user")
    assert evaluate(stage, "sam", "acme", "plan", token=own).json["variant"] == "not_a_member"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthenticated"),
        (bearer("sct_nobody"), 401, "unauthenticated"),
        ({"Authorization": "Basic x"}, 401, "unauthenticated"),
        (bearer(a_token(sub="sam", aud="other")), 401, "user_unauthenticated"),
        (bearer("a.b.c"), 401, "user_unauthenticated"),
        (bearer(OPS), 403, "scope_missing"),
    ],
)
def test_nobody_else_may_ask(headers, status, code):
    stage = a_flags_stage()

    for path in (FLAGS, f"{FLAGS}/plan"):
        answer = stage.client.post(path, json={}, headers=headers)

        assert (answer.status_code, answer.json["code"]) == (status, code)
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert (stage.lines[-1]["code"], stage.lines[-1]["status"]) == (code, status)


def test_without_keys_of_an_identity_provider_a_jwt_is_no_callers_token():
    answer = evaluate(a_stage(MEMBERS), "sam", "solo", token=a_token(sub="sam"))

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")


def test_where_users_can_prove_themselves_no_place_stands_in_for_a_token():
    """A proxy beside the sidecar, which browsers come through, would lend them its loopback."""
    body = {"context": {"targetingKey": "sam", "workspace": "solo"}}
    proxied = a_flags_stage(tokens=None)

    assert proxied.client.post(FLAGS, json=body).status_code == 401
    assert evaluate(proxied, "sam", "solo", token=a_token(sub="sam")).status_code == 200
    assert a_stage(MEMBERS, tokens=None).client.post(FLAGS, json=body).status_code == 200


class NoKeys:
    def user(self, _, /, *, deadline):
        raise IdentityUnavailable("10.1.2.3 is away")


class NoLog:
    waits = True

    def note(self, line):
        """It is not written."""

    def await_written(self, *_, deadline):
        raise LogUnavailable


@pytest.mark.parametrize("key", [None, "video_avatar"])
@pytest.mark.parametrize(
    "outage", [*OUTAGES, IdentityUnavailable, LogUnavailable, "starting", "overloaded", "defect"], ids=str
)
def test_an_outage_has_details_and_never_a_value(outage, key, monkeypatch):
    stage, token = a_flags_stage(), BACKEND
    status = 503
    match outage:
        case "starting":
            stage = a_flags_stage(serving=lambda: False)
        case "overloaded":
            application = stage.client.application
            monkeypatch.setattr(application, "answer", application.overloaded)
        case "defect":
            monkeypatch.setattr(endpoints, "flag", lambda *_, **__: 1 / 0)
            status = 500
        case _ if outage is IdentityUnavailable:
            stage, token = a_stage(MEMBERS, identities=NoKeys()), a_token(sub="sam")
        case _ if outage is LogUnavailable:
            object.__setattr__(stage.service, "log", NoLog())
        case _:
            stage.facts.outage = outage("10.1.2.3 said no")

    answer = evaluate(stage, "sam", "solo", key, token=token)

    check(answer.json, "FlagFailure")
    assert (answer.status_code, list(answer.json)) == (status, ["errorDetails"])
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers.get("Retry-After") == ("1" if status == 503 else None)
    assert "10.1.2.3" not in answer.text
    assert answer.json["errorDetails"]


def test_the_etag_is_of_what_is_answered_and_is_304_until_that_changes():
    stage = a_flags_stage()
    first = evaluate(stage, "sam", "solo")
    tag = first.headers["ETag"]

    again = evaluate(stage, "sam", "solo", If_None_Match=tag)
    weakly = evaluate(stage, "sam", "solo", If_None_Match=f'"x", W/{tag}')
    stage.facts.members["sam", "solo"] = some_facts(role="owner", plan="pro")
    changed = evaluate(stage, "sam", "solo", If_None_Match=tag)

    assert tag.startswith('"')
    assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", tag)
    assert weakly.status_code == 304
    assert (changed.status_code, changed.headers["ETag"] != tag) == (200, True)
    for answer in (first, again, changed):
        assert answer.headers["Cache-Control"] == "private, no-cache"
    assert evaluate(stage, "mia", "acme", If_None_Match=tag).status_code == 200
    told, known = stage.lines[0], stage.lines[1]
    assert (told["kind"], told["endpoint"], told["status"]) == ("listing", "evaluate_flags", 200)
    assert (known["status"], known["sha256"]) == (304, told["sha256"])


def test_the_line_of_one_flag_names_it_and_its_user():
    stage = a_flags_stage()
    evaluate(stage, "mia", "acme", "team_sessions")

    [line] = stage.lines
    assert (line["endpoint"], line["flag"], line["found"]) == ("evaluate_flag", "team_sessions", 1)
    assert (line["caller"], line["user"], line["workspace"]) == ("backend", "mia", "acme")
    assert line["workspace_id"] == str(WORKSPACE_ID)
