from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.guard import Client, Conflict, Denied, Refused, Unavailable
from sidecar.guard.answers import Misread, decision_from
from tests.engines.sockets import server
from tests.guard.values import PRO, WHERE, a_denial, a_grant, a_hold, a_problem, a_quota, answering

PATIENT_S = 10
TOKEN = "sct_secret"  # noqa: S105 - of nobody


@contextmanager
def a_sidecar(*documents, token=None, **response):
    """What it heard, and a client of it."""
    with (
        server(answering(*documents, **response)) as heard,
        Client(heard.url, token=token, timeout_s=PATIENT_S) as client,
    ):
        yield heard, client


def sent(heard, place=-1):
    return json.loads(heard.bodies[place])


def test_a_yes_is_true_and_says_who_they_are_there():
    with a_sidecar(a_grant()) as (heard, client):
        decision = client.check("roleplay.start", **WHERE)

    assert decision
    assert (decision.role, decision.plan, decision.reason) == ("member", "team", "granted")
    assert decision.facts_at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert sent(heard) == {"action": "roleplay.start", "user": "mia", "workspace": "acme"}


def test_a_no_is_false_and_says_what_would_help():
    denial = a_denial(status=402, reason="feature_not_in_plan", needs={"feature": "analytics"}, upgrade=[PRO])
    with a_sidecar(denial) as (_, client):
        decision = client.check("analytics.view", **WHERE)

    assert not decision
    assert decision.needs_feature == "analytics"
    assert [each.plan for each in decision.upgrade] == ["pro"]
    assert decision.upgrade[0].price.amount == 149


def test_authorize_raises_the_no():
    denial = a_denial(
        status=429, reason="quota_exceeded", retry_after=3600, quota={"minutes": a_quota(over_by=2)}
    )
    with a_sidecar(denial) as (_, client), pytest.raises(Denied) as denied:
        client.authorize("recording.start", minutes=5, **WHERE)

    assert (denied.value.status, denied.value.reason, denied.value.retry_after) == (
        429,
        "quota_exceeded",
        3600,
    )
    assert denied.value.message == "This needs Admin."
    assert denied.value.upgrade == ()
    assert denied.value.decision is not None
    assert denied.value.decision.quota["minutes"].over_by == 2


def test_authorize_gives_the_yes():
    with a_sidecar(a_grant()) as (heard, client):
        assert client.authorize("recording.start", amounts={"minutes": 3}, **WHERE)

    assert sent(heard)["amounts"] == {"minutes": 3}


def test_everything_that_a_question_may_say_is_said():
    with a_sidecar(a_grant()) as (heard, client):
        client.consume(
            "recording.start",
            minutes=5,
            amounts={"scenarios": 1},
            idempotency_key="k",
            resource="r",
            context={"country": "de"},
            **WHERE,
        )

    assert sent(heard) == WHERE | {
        "action": "recording.start",
        "mode": "consume",
        "amounts": {"scenarios": 1, "minutes": 5},
        "idempotency_key": "k",
        "resource": "r",
        "context": {"country": "de"},
    }


def test_the_token_goes_with_every_question():
    with a_sidecar(a_grant(), token=TOKEN) as (heard, client):
        client.check("roleplay.start", **WHERE)

    assert b"\r\nAuthorization: Bearer sct_secret\r\n" in heard.heads[0]


def test_consume_raises_the_no():
    with a_sidecar(a_denial()) as (_, client), pytest.raises(Denied):
        client.consume("recording.start", **WHERE)


def test_each_consume_has_a_key_of_its_own_unless_it_is_given_one():
    with a_sidecar(a_grant()) as (heard, client):
        first = client.consume("recording.start", **WHERE)
        client.consume("recording.start", **WHERE)
        third = client.consume("recording.start", idempotency_key="mine", **WHERE)

    keys = [sent(heard, place)["idempotency_key"] for place in range(3)]
    assert first.idempotency_key == keys[0] != keys[1]
    assert third.idempotency_key == keys[2] == "mine"


def test_a_repeated_consume_says_so():
    with a_sidecar(a_grant(replayed=True)) as (_, client):
        assert client.consume("recording.start", idempotency_key="k", **WHERE).replayed


def test_reserve_gives_a_hold_and_says_how_long():
    with a_sidecar(a_grant(reservation=a_hold()), {}) as (heard, client):
        hold = client.reserve("recording.start", minutes=30, ttl_s=900, **WHERE)

    assert hold.reservation.id == "hold-1"
    assert hold.reservation.amounts == {"minutes": 30}
    assert sent(heard)["mode"] == "reserve"
    assert sent(heard)["ttl_seconds"] == 900


def test_reserve_raises_the_no():
    with a_sidecar(a_denial()) as (_, client), pytest.raises(Denied):
        client.reserve("recording.start", **WHERE)


def test_a_reservation_that_is_granted_and_not_there_is_no_answer():
    with a_sidecar(a_grant()) as (_, client), pytest.raises(Unavailable, match="sidecar_misbehaved"):
        client.reserve("recording.start", **WHERE)


def a_settlement(**changes):
    reservation = a_hold(state="committed", committed={"minutes": 12})
    return {"reservation": reservation, "quota": {"minutes": a_quota()}} | changes


def test_what_was_committed_and_what_is_left_is_told():
    with a_sidecar(a_settlement(replayed=True)) as (heard, client):
        settled = client.commit("hold-1", minutes=12)

    assert (settled.amounts, settled.replayed) == ({"minutes": 12}, True)
    assert settled.quota["minutes"].remaining == 3
    assert sent(heard) == {"amounts": {"minutes": 12}}


def test_what_was_released_is_told():
    with a_sidecar(a_settlement(reservation=a_hold(state="released", committed=None))) as (heard, client):
        settled = client.release("hold-1")

    assert (settled.amounts, settled.replayed) == ({"minutes": 30}, False)
    assert heard.bodies == [b""]


@pytest.mark.parametrize("answer", [{}, a_settlement(quota=None), a_settlement(reservation=a_hold()), []])
def test_a_settlement_that_is_not_as_promised_is_none(answer):
    with a_sidecar(answer) as (_, client), pytest.raises(Unavailable) as outage:
        client.commit("hold-1")

    assert outage.value.uncertain


def test_an_id_stays_within_its_part_of_the_path():
    with a_sidecar(a_settlement()) as (heard, client):
        client.commit("a/../b?c")
        client.release("ü")

    assert heard.heads[0].startswith(b"POST /v1/reservations/a%2F..%2Fb%3Fc/commit HTTP/1.1\r\n")
    assert heard.heads[1].startswith(b"POST /v1/reservations/%C3%BC/release HTTP/1.1\r\n")


@pytest.mark.parametrize(("more", "before"), [({"replayed": True}, True), ({}, False)])
def test_what_is_given_back_says_whether_it_had_been_before(more, before):
    with a_sidecar({"released": {"minutes": 1}, "quota": {}} | more) as (heard, client):
        settled = client.usage_release(workspace="acme", idempotency_key="k", amounts={"minutes": 1})

    assert (settled.amounts, settled.replayed) == ({"minutes": 1}, before)
    assert sent(heard) == {"workspace": "acme", "idempotency_key": "k", "amounts": {"minutes": 1}}


def test_a_resource_of_a_level_is_given_back():
    with a_sidecar({"released": {"scenarios": 1}, "quota": {}}) as (heard, client):
        client.usage_release(workspace="acme", meter="scenarios", resource="s-1")

    assert sent(heard) == {"workspace": "acme", "meter": "scenarios", "resource": "s-1"}


def test_a_batch_is_one_call_and_answers_in_order():
    with a_sidecar({"answers": [a_grant(), a_denial()]}) as (heard, client):
        first, second = client.batch(
            ["roleplay.start", {"action": "recording.start", "amounts": {"minutes": 2}}], **WHERE
        )

    assert (bool(first), bool(second)) == (True, False)
    assert len(heard.heads) == 1
    assert sent(heard) == {
        "defaults": WHERE,
        "questions": [{"action": "roleplay.start"}, {"action": "recording.start", "amounts": {"minutes": 2}}],
    }


def test_a_batch_of_nothing_asks_nothing():
    with a_sidecar(a_grant()) as (heard, client):
        assert client.batch([], **WHERE) == ()

    assert heard.heads == []


@pytest.mark.parametrize("answers", [[], [a_grant()], [a_grant()] * 3, None, {}, "yes"])
def test_as_many_answers_as_questions_or_none(answers):
    with a_sidecar({"answers": answers}) as (_, client), pytest.raises(Unavailable):
        client.batch(["a", "b"], **WHERE)


def test_a_bad_question_refuses_the_batch():
    bad = a_problem(400, "meter_not_taken", errors=[{"pointer": "/questions/1/amounts/x", "detail": "no"}])
    with a_sidecar({"answers": [a_grant(), bad]}) as (_, client), pytest.raises(Refused) as refused:
        client.batch(["a", "b"], **WHERE)

    assert refused.value.code == "meter_not_taken"
    assert refused.value.errors == (("/questions/1/amounts/x", "no"),)


ENTITLEMENTS = {
    "workspace": {"id": "3f2b8a52-1111-4222-8333-444455556666", "slug": "acme", "name": "Acme"},
    "role": "member",
    "plan": "team",
    "features": {"analytics": True},
    "quotas": {"minutes": a_quota(limit=None, remaining=None, resets_at=None)},
    "actions": {"members.invite": False},
    "policy_revision": "r1",
}


def test_entitlements_are_all_that_a_frontend_needs():
    with a_sidecar(ENTITLEMENTS) as (heard, client):
        has = client.entitlements(user="a/b", workspace="x?y")

    assert heard.heads[0].startswith(b"GET /v1/workspaces/x%3Fy/entitlements?user=a%2Fb HTTP/1.1\r\n")
    assert (has.workspace.slug, has.workspace.role) == ("acme", "member")
    assert has.features["analytics"]
    assert not has.actions["members.invite"]
    assert has.quotas["minutes"].remaining is None


@pytest.mark.parametrize(
    "changed",
    [{"features": {"analytics": 1}}, {"actions": {"a": "true"}}, {"workspace": {"id": "x"}}, {"quotas": []}],
)
def test_entitlements_that_are_not_as_promised_are_none(changed):
    with a_sidecar(ENTITLEMENTS | changed) as (_, client), pytest.raises(Unavailable):
        client.entitlements(**WHERE)


def test_a_stranger_has_no_entitlements():
    with a_sidecar(a_problem(403, "not_a_member")) as (_, client), pytest.raises(Denied) as denied:
        client.entitlements(**WHERE)

    assert (denied.value.status, denied.value.reason) == (403, "not_a_member")
    assert denied.value.upgrade == ()
    assert denied.value.retry_after is None


ROW = {"id": "3f2b8a52-1111-4222-8333-444455556666", "slug": "acme", "name": "Acme"} | {
    "role": "member",
    "plan": "team",
}


def test_a_no_that_an_upgrade_and_waiting_would_end_says_both():
    denial = a_denial(status=402, reason="quota_exceeded", upgrade=[PRO], retry_after=60)
    with a_sidecar(denial) as (_, client), pytest.raises(Denied) as denied:
        client.authorize("recording.start", minutes=5, **WHERE)

    assert (denied.value.status, denied.value.retry_after) == (402, 60)
    assert [upgrade.plan for upgrade in denied.value.upgrade] == ["pro"]


def test_workspaces_of_a_user_are_read_page_by_page():
    pages = [
        {"workspaces": [ROW], "next": "acme"},
        {"workspaces": [], "next": "b"},
        {"workspaces": [ROW], "next": None},
    ]
    with a_sidecar(*pages) as (heard, client):
        found = list(client.workspaces_of("mia", action="analytics.view"))

    assert [each.slug for each in found] == ["acme", "acme"]
    assert [head.split(b" ")[1] for head in heard.heads] == [
        b"/v1/users/mia/workspaces?action=analytics.view",
        b"/v1/users/mia/workspaces?action=analytics.view&after=acme",
        b"/v1/users/mia/workspaces?action=analytics.view&after=b",
    ]


def test_pages_that_go_in_a_circle_end():
    with a_sidecar({"workspaces": [ROW], "next": "acme"}) as (_, client), pytest.raises(Unavailable):
        list(client.workspaces_of("mia"))


@pytest.mark.parametrize(
    ("problem", "raised"),
    [
        (
            a_problem(400, "invalid_request", detail="no", errors=[{"pointer": "/usr", "detail": "?"}]),
            Refused,
        ),
        (a_problem(401, "unauthenticated"), Refused),
        (a_problem(403, "scope_missing"), Refused),
        (a_problem(404, "not_found"), Refused),
        (a_problem(409, "idempotency_key_reused"), Conflict),
        (a_problem(413, "body_too_large"), Refused),
        (a_problem(500, "internal_error"), Unavailable),
        (a_problem(503, "facts_unavailable"), Unavailable),
        (a_problem(503, "starting", errors="none"), Unavailable),
    ],
)
def test_a_problem_is_raised_under_its_code(problem, raised):
    with a_sidecar(problem) as (_, client), pytest.raises(raised) as error:
        client.check("roleplay.start", **WHERE)

    assert error.value.code == problem["code"]
    assert problem["code"] in str(error.value)


def test_a_503_may_have_had_its_effect():
    with a_sidecar(a_problem(503, "facts_unavailable")) as (_, client), pytest.raises(Unavailable) as outage:
        client.consume("recording.start", **WHERE)

    assert outage.value.uncertain


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "https://",
        "https://x/path",
        "ftp://x",
        "http://",
        "http://x/path",
        "http://x:y",
        "unix://x/y",
        "unix:",
        "http://u@x",
    ],
)
def test_what_is_no_address_is_refused_when_it_is_given(url):
    with pytest.raises(ValueError, match="is no address of a sidecar"):
        Client(url)


@pytest.mark.parametrize("token", ["", "sct_1 2", "sct_1\r\nX: y", "ä"])
def test_what_is_no_token_is_refused_and_not_shown(token):
    with pytest.raises(ValueError, match="the token holds") as error:
        Client(token=token)

    assert not token or token not in str(error.value)


def test_numbers_that_json_has_not_are_not_sent():
    with a_sidecar(a_grant()) as (heard, client), pytest.raises(ValueError, match="Out of range"):
        client.check("a", context={"x": float("nan")}, **WHERE)

    assert heard.heads == []


LIES = [
    {"allow": "true"},
    {"allow": 1},
    {"allow": None},
    {"allow": False},
    {"status": 403},
    {"status": "200"},
    {"status": 200.0},
    {"status": True},
    {"reason": "not_a_member"},
    {"reason": None},
    {"message": None},
    {"role": None},
    {"plan": 3},
    {"workspace": "acme"},
    {"workspace": None},
    {"workspace": {"id": "3f2b8a52-1111-4222-8333-444455556666"}},
    {"workspace": {"id": 1, "slug": "acme"}},
    {"upgrade": [PRO]},
    {"upgrade": {}},
    {"upgrade": [PRO | {"price": "free"}], "allow": False, "status": 402, "reason": "x"},
    {"retry_after": 3},
    {"retry_after": "3"},
    {"retry_after": 3, "allow": False, "status": 403, "reason": "quota_exceeded"},
    {"allow": False, "status": 429, "reason": "quota_exceeded"},
    {"needs": []},
    {"needs": {"roles": "admin"}},
    {"needs": {"roles": [1]}},
    {"quota": {"minutes": {}}},
    {"quota": {"minutes": a_quota(used="1")}},
    {"quota": {"minutes": a_quota(resets_at="tomorrow")}},
    {"reservation": {}},
    {"reservation": a_hold(amounts={"minutes": "30"})},
    {"reservation": a_hold(expires_at="2026-11-24T12:01:00")},
    {"decision_id": 1},
    {"policy_revision": None},
    {"facts": None},
    {"facts": {"at": "2026-11-24T12:00:00Z"}},
    {"facts": {"at": 0, "cached": False}},
    {"replayed": "yes"},
    {"status": 500, "allow": False, "reason": "x"},
    {"status": 402, "allow": False, "reason": "x"},
    {"status": 429, "allow": False, "reason": "x"},
    {"status": 403, "allow": False, "reason": "x", "reservation": a_hold()},
]


ALWAYS_THERE = sorted(a_grant().keys() - {"workspace"})  # which an older sidecar does not tell


@pytest.mark.parametrize("lie", LIES, ids=json.dumps)
def test_an_answer_that_is_not_as_promised_is_none(lie):
    with pytest.raises(Misread):
        decision_from(a_grant(**lie))


@pytest.mark.parametrize("missing", ALWAYS_THERE)
def test_a_field_that_is_missing_makes_it_no_answer(missing):
    answer = a_grant()
    del answer[missing]

    with pytest.raises(Misread):
        decision_from(answer)


@pytest.mark.parametrize("document", [None, True, 1, "true", [], [a_grant()], {}])
def test_what_is_no_object_is_no_answer(document):
    with pytest.raises(Misread):
        decision_from(document)


def test_an_older_sidecar_does_not_name_the_workspace():
    answer = a_grant()
    del answer["workspace"]

    assert decision_from(answer).workspace is None


def test_a_field_of_a_newer_sidecar_does_no_harm():
    assert decision_from(a_grant(hint="new"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


@given(
    base=st.sampled_from([a_grant(), a_denial()]),
    field=st.sampled_from([*a_grant(), "needs", "quota"]),
    value=JSON,
)
def test_nothing_but_a_plain_yes_is_ever_a_yes(base, field, value):
    document = base | {field: value}
    try:
        decision = decision_from(document)
    except Misread:
        return

    assert bool(decision) is (
        document["allow"] is True and document["status"] == 200 and document["reason"] == "granted"
    )


def test_answers_are_frozen():
    with pytest.raises(AttributeError):
        decision_from(a_denial()).allowed = True  # type: ignore[misc] # what the test is about
