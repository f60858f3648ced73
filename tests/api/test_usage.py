"""Quota over HTTP, on the stage: the shapes of effects, and what is refused and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sidecar.errors import FactsUnavailable, UsageContended
from tests.api.stage import BACKEND, REVISION, a_stage
from tests.values import WORKSPACE_ID, some_facts

MEMBERS = {
    ("mia", "acme"): some_facts(usage={"minutes": 10}),
    ("olivia", "acme"): some_facts(role="owner", usage={"minutes": 10}),
}
QUESTION = {"user": "mia", "workspace": "acme", "action": "recording.start"}
CONSUME, RESERVE = {**QUESTION, "mode": "consume"}, {**QUESTION, "mode": "reserve"}
HEADERS = {"Authorization": f"Bearer {BACKEND}"}
MINUTES = {"limit": 1000, "used": 10, "reserved": 0, "remaining": 990, "resets_at": "2026-12-01T00:00:00Z"}


@pytest.fixture
def stage():
    return a_stage(MEMBERS)


def post(stage, path, body=None):
    return stage.client.post(path, json=body, headers=HEADERS)


def authorize(stage, **fields):
    return post(stage, "/v1/authorize", CONSUME | fields)


def reserved(stage, **fields):
    return post(stage, "/v1/authorize", RESERVE | fields).json["reservation"]["id"]


def commit(stage, reservation, body=None):
    return post(stage, f"/v1/reservations/{reservation}/commit", body)


def release(stage, reservation):
    return post(stage, f"/v1/reservations/{reservation}/release")


def give_back(stage, **body):
    return post(stage, "/v1/usage/release", {"workspace": "acme", **body})


def problem(answer):
    return (
        answer.status_code,
        answer.json["code"],
        [each["pointer"] for each in answer.json.get("errors", [])],
    )


def test_a_consume_shows_the_quota_after_it(stage):
    answer = authorize(stage, amounts={"minutes": 5})

    assert answer.status_code == 200
    assert list(answer.json) == [
        "allow", "status", "reason", "message", "role", "plan", "workspace", "quota",
        "reservation", "decision_id", "policy_revision", "facts",
    ]  # fmt: skip
    assert answer.json["quota"] == {"minutes": {**MINUTES, "used": 15, "remaining": 985}}
    assert (answer.json["allow"], answer.json["reservation"]) == (True, None)


def test_a_reservation_has_an_id_an_end_and_its_amounts(stage):
    answer = post(stage, "/v1/authorize", RESERVE | {"amounts": {"minutes": 5}, "ttl_seconds": 90})

    reservation = answer.json["reservation"]
    assert list(reservation) == ["id", "expires_at", "amounts", "state"]
    assert len(bytes.fromhex(reservation["id"])) == 16
    assert (reservation["expires_at"], reservation["amounts"]) == ("2026-11-24T12:01:30Z", {"minutes": 5})
    assert reservation["state"] == "held"
    ends = {"grows_at": reservation["expires_at"]}
    assert answer.json["quota"] == {"minutes": {**MINUTES, "reserved": 5, "remaining": 985, **ends}}


def test_a_reservation_holds_for_a_minute_if_nothing_is_said(stage):
    reservation = post(stage, "/v1/authorize", RESERVE).json["reservation"]

    assert reservation["expires_at"] == "2026-11-24T12:01:00Z"


def test_a_repeat_is_the_first_answer_and_says_so(stage):
    first, again = (authorize(stage, idempotency_key="k") for _ in range(2))

    assert "replayed" not in first.json
    assert again.json == first.json | {"replayed": True}


def test_check_ignores_the_key_and_takes_nothing(stage):
    for _ in range(2):
        answer = post(stage, "/v1/authorize", QUESTION | {"idempotency_key": "k", "resource": "r"})
        assert answer.json["quota"] == {"minutes": MINUTES}
        assert "replayed" not in answer.json
    assert "replayed" not in authorize(stage, idempotency_key="k").json


def test_a_denied_consume_is_answered_like_a_denied_check(stage):
    over = {"amounts": {"minutes": 991}}

    denied, checked = authorize(stage, **over), post(stage, "/v1/authorize", QUESTION | over)

    assert (denied.status_code, denied.json["status"], denied.json["reason"]) == (200, 429, "quota_exceeded")
    assert denied.json | {"decision_id": ""} == checked.json | {"decision_id": ""}


def test_a_stranger_s_consume_tells_nothing(stage):
    answer = authorize(stage, user="eve", idempotency_key="k").json

    assert set(answer) == {
        "allow", "status", "reason", "message", "reservation", "decision_id", "policy_revision", "facts",
    }  # fmt: skip
    assert answer["reason"] == "not_a_member"


@pytest.mark.parametrize(
    "amount",
    [0, -1, 1.0, 1.5, True, False, "1", "", None, [], {}, 2**63, 10**12 + 1, 1e2, -(2**70)],
    ids=repr,
)
def test_an_amount_is_a_whole_number_from_1_to_a_million_million(stage, amount):
    bad = {"amounts": {"minutes": amount}}
    held = reserved(stage)
    authorize(stage, idempotency_key="k")

    refused = (
        authorize(stage, **bad),
        post(stage, "/v1/authorize", RESERVE | bad),
        post(stage, "/v1/authorize", QUESTION | bad),
        commit(stage, held, bad),
        give_back(stage, idempotency_key="k", **bad),
    )

    for answer in refused:
        assert problem(answer) == (400, "invalid_request", ["/amounts/minutes"])
    assert stage.facts.members["mia", "acme"].usage["minutes"].used == 11


def test_a_million_million_is_an_amount(stage):
    assert authorize(stage, amounts={"minutes": 10**12}).json["reason"] == "quota_exceeded"


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"mode": "take"}, "/mode"),
        ({"mode": None}, "/mode"),
        ({"amounts": [5]}, "/amounts"),
        ({"amounts": None}, "/amounts"),
        ({"amounts": 5}, "/amounts"),
        ({"idempotency_key": ""}, "/idempotency_key"),
        ({"idempotency_key": "k" * 256}, "/idempotency_key"),
        ({"idempotency_key": 7}, "/idempotency_key"),
        ({"idempotency_key": "a\0"}, "/idempotency_key"),
        ({"idempotency_key": "\ud800"}, "/idempotency_key"),
        ({"resource": ""}, "/resource"),
        ({"resource": "r" * 256}, "/resource"),
        ({"resource": None}, "/resource"),
        ({"ttl_seconds": 0}, "/ttl_seconds"),
        ({"ttl_seconds": 3_601}, "/ttl_seconds"),
        ({"ttl_seconds": 1.0}, "/ttl_seconds"),
        ({"ttl_seconds": "60"}, "/ttl_seconds"),
        ({"ttl": 60}, "/ttl"),
        ({"at": "2026-11-24T12:00:00Z"}, "/at"),
        ({"force": True}, "/force"),
    ],
    ids=repr,
)
def test_a_field_that_is_not_as_it_should_be_is_named(stage, fields, pointer):
    assert problem(authorize(stage, **fields)) == (400, "invalid_request", [pointer])


def test_the_longest_key_and_resource_are_taken(stage):
    assert authorize(stage, idempotency_key="k" * 255, resource="😀" * 255).json["allow"] is True


def test_a_meter_that_the_action_does_not_take_is_not_taken(stage):
    answer = authorize(stage, amounts={"minutes": 1, "scenarios": 1})

    assert problem(answer) == (400, "meter_not_taken", ["/amounts/scenarios"])
    assert stage.facts.members["mia", "acme"].usage["minutes"].used == 10


@pytest.mark.parametrize("mode", ["consume", "reserve"])
def test_members_are_counted_and_never_consumed(stage, mode):
    asked = {"user": "olivia", "action": "members.invite"}

    assert problem(authorize(stage, mode=mode, **asked)) == (400, "meter_not_consumable", ["/mode"])
    assert authorize(stage, mode="check", **asked).json["allow"] is True


def test_a_key_that_was_used_for_another_request_is_a_conflict(stage):
    authorize(stage, idempotency_key="k", amounts={"minutes": 1})

    answer = authorize(stage, idempotency_key="k", amounts={"minutes": 2})

    assert problem(answer) == (409, "idempotency_key_reused", [])
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_batch_takes_nothing(stage):
    items = [QUESTION, CONSUME, RESERVE, QUESTION]

    answer = post(stage, "/v1/authorize/batch", {"questions": items})
    refused = post(stage, "/v1/authorize/batch", {"defaults": {"mode": "consume"}, "questions": [QUESTION]})

    first, consume, reserve, last = answer.json["answers"]
    assert (first["allow"], last["allow"]) == (True, True)
    assert (
        (consume["code"], consume["status"])
        == (reserve["code"], reserve["status"])
        == ("mode_not_batched", 400)
    )
    assert [each["errors"][0]["pointer"] for each in (consume, reserve)] == [
        "/questions/1/mode",
        "/questions/2/mode",
    ]
    assert problem(refused) == (400, "mode_not_batched", ["/defaults/mode"])
    assert stage.facts.members["mia", "acme"].usage["minutes"].used == 10


@pytest.mark.parametrize("body", [None, {}, {"amounts": {"minutes": 5}}], ids=repr)
def test_a_commit_of_all_needs_no_body(stage, body):
    held = reserved(stage, amounts={"minutes": 5})

    answer = commit(stage, held, body)

    assert answer.status_code == 200
    assert answer.json == {
        "reservation": {
            "id": held,
            "expires_at": "2026-11-24T12:01:00Z",
            "amounts": {"minutes": 5},
            "state": "committed",
            "committed": {"minutes": 5},
        },
        "quota": {"minutes": {**MINUTES, "used": 15, "remaining": 985}},
    }


def test_a_commit_of_less_and_a_release_give_back(stage):
    partly, wholly = reserved(stage, amounts={"minutes": 5}), reserved(stage, amounts={"minutes": 7})

    committed, released = commit(stage, partly, {"amounts": {"minutes": 2}}), release(stage, wholly)

    assert committed.json["reservation"]["committed"] == {"minutes": 2}
    assert committed.json["quota"]["minutes"] == {**MINUTES, "used": 12, "reserved": 7, "remaining": 981}
    assert (released.json["reservation"]["state"], released.json["reservation"]["committed"]) == (
        "released",
        None,
    )
    assert released.json["quota"]["minutes"] == {**MINUTES, "used": 12, "remaining": 988}


def test_a_repeat_of_a_reservation_says_how_it_stands_with_the_figures_of_now(stage):
    asked = {"mode": "reserve", "idempotency_key": "k", "amounts": {"minutes": 5}}
    first = authorize(stage, **asked).json
    held = authorize(stage, **asked).json
    commit(stage, first["reservation"]["id"], {"amounts": {"minutes": 2}})
    committed = authorize(stage, **asked).json
    give_back(stage, idempotency_key="k", amounts={"minutes": 1})
    refunded = authorize(stage, **asked).json

    assert (held["reservation"], held["quota"]) == (first["reservation"], first["quota"])
    assert committed["reservation"] == {**first["reservation"], "state": "committed"}
    assert committed["quota"] == {"minutes": {**MINUTES, "used": 12, "remaining": 988}}
    assert refunded["quota"] == {"minutes": {**MINUTES, "used": 11, "remaining": 989}}
    assert (refunded["replayed"], refunded["decision_id"]) == (True, first["decision_id"])


def test_to_settle_twice_is_replayed_and_otherwise_a_conflict(stage):
    committed, released = reserved(stage, amounts={"minutes": 5}), reserved(stage)
    commit(stage, committed, {"amounts": {"minutes": 2}})
    release(stage, released)

    assert commit(stage, committed, {"amounts": {"minutes": 2}}).json["replayed"] is True
    assert release(stage, released).json["replayed"] is True
    for answer in (
        commit(stage, committed),
        commit(stage, committed, {"amounts": {"minutes": 3}}),
        release(stage, committed),
        commit(stage, released),
    ):
        assert problem(answer) == (409, "reservation_settled", [])


def test_a_commit_of_more_is_a_conflict(stage):
    held = reserved(stage, amounts={"minutes": 5})

    assert problem(commit(stage, held, {"amounts": {"minutes": 6}})) == (
        409,
        "commit_exceeds_reservation",
        ["/amounts/minutes"],
    )
    assert problem(commit(stage, held, {"amounts": {"scenarios": 1}})) == (
        400,
        "meter_not_taken",
        ["/amounts/scenarios"],
    )
    assert commit(stage, held).status_code == 200


def test_a_commit_that_comes_too_late_is_a_question_and_may_be_refused(stage):
    held, lucky = reserved(stage, amounts={"minutes": 990}), None
    stage.ledger.expire(held)
    lucky = authorize(stage, amounts={"minutes": 5})

    answer = commit(stage, held)

    assert lucky.json["allow"] is True
    assert problem(answer) == (409, "reservation_expired", [])
    assert answer.json["detail"].endswith("15 are used and 990 were asked for.")
    assert commit(stage, held, {"amounts": {"minutes": 3}}).json["reservation"]["committed"] == {"minutes": 3}


def test_a_reservation_says_its_state_wherever_it_is_shown(stage):
    held, late = (authorize(stage, mode="reserve", amounts={"minutes": 5}).json["reservation"] for _ in "ab")
    stage.ledger.expire(late["id"])

    settled = [
        each.json["reservation"]["state"]
        for each in (release(stage, held["id"]), release(stage, late["id"]), release(stage, late["id"]))
    ]

    assert (held["state"], settled) == ("held", ["released", "expired", "expired"])
    assert problem(commit(stage, late["id"])) == (409, "reservation_settled", [])


@pytest.mark.parametrize("settle", [commit, release])
def test_an_unknown_reservation_is_not_found(stage, settle):
    for id_ in ("f" * 32, "x", "%2e%2e", "a%20b"):
        assert problem(settle(stage, id_)) == (404, "unknown_reservation", [])
    assert problem(settle(stage, "a%00")) == (400, "invalid_request", ["/path/reservation"])


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"amount": 5}, ["/amount"]),
        ({"amounts": {"minutes": 5}, "force": True}, ["/force"]),
        ({"amounts": {}}, ["/amounts"]),
        ({"amounts": None}, ["/amounts"]),
        ({"amounts": {"minutes": -1}}, ["/amounts/minutes"]),
        ({"amounts": {"minutes": 0}}, ["/amounts/minutes"]),
        ([], [""]),
        ("x", [""]),
        (7, [""]),
    ],
    ids=repr,
)
def test_the_body_of_a_commit_is_amounts_or_nothing(stage, body, pointers):
    assert problem(commit(stage, reserved(stage), body)) == (400, "invalid_request", pointers)


def test_a_body_of_another_type_or_that_is_no_json_is_refused(stage):
    path = f"/v1/reservations/{reserved(stage)}/commit"

    text = stage.client.post(path, data="{}", headers=HEADERS, content_type="text/plain")
    torn = stage.client.post(path, data='{"amounts": ', headers=HEADERS, content_type="application/json")

    assert (problem(text)[:2], problem(torn)[:2]) == (
        (415, "unsupported_media_type"),
        (400, "malformed_json"),
    )


def test_what_a_key_took_is_refunded_once(stage):
    authorize(stage, idempotency_key="k", amounts={"minutes": 5})

    first, again = give_back(stage, idempotency_key="k"), give_back(stage, idempotency_key="k")

    assert first.json == {"released": {"minutes": 5}, "quota": {"minutes": MINUTES}}
    assert again.json == first.json | {"replayed": True}
    assert problem(give_back(stage, idempotency_key="k", amounts={"minutes": 4})) == (
        409,
        "refund_exceeds_use",
        [],
    )
    assert problem(give_back(stage, idempotency_key="other")) == (404, "unknown_idempotency_key", [])
    assert problem(give_back(stage, workspace="nowhere", idempotency_key="k")) == (
        404,
        "unknown_workspace",
        [],
    )


def test_a_workspace_is_named_by_its_id_in_any_case(stage):
    authorize(stage, idempotency_key="k")

    answer = give_back(stage, workspace=str(WORKSPACE_ID).upper(), idempotency_key="k")

    assert answer.json["released"] == {"minutes": 1}


def test_a_level_is_given_back_by_the_name_of_the_thing(stage):
    made = authorize(stage, action="scenarios.create", resource="s-1")
    again = authorize(stage, action="scenarios.create", resource="s-1")

    first, twice = (give_back(stage, meter="scenarios", resource="s-1") for _ in range(2))

    assert (again.json["decision_id"], again.json["replayed"]) == (made.json["decision_id"], True)
    assert again.json["message"] == "It exists already: nothing was taken."
    assert (first.json["released"], "replayed" in first.json) == ({"scenarios": 1}, False)
    assert (twice.json["released"], twice.json["replayed"]) == ({"scenarios": 0}, True)


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/idempotency_key"]),
        ({"idempotency_key": "k", "amounts": {}}, ["/amounts"]),
        ({"meter": "scenarios"}, ["/resource"]),
        ({"resource": "s"}, ["/meter"]),
        ({"meter": "scenarios", "resource": "s", "idempotency_key": "k"}, ["/idempotency_key"]),
        ({"meter": "scenarios", "resource": "s", "amounts": {"scenarios": 1}}, ["/amounts"]),
        ({"idempotency_key": "k", "user": "mia"}, ["/user"]),
        ({"idempotency_key": ""}, ["/idempotency_key"]),
        ({"idempotency_key": "k", "workspace": None}, ["/workspace"]),
        ({"meter": "minutes", "resource": "s"}, ["/meter"]),
        ({"meter": "gold", "resource": "s"}, ["/meter"]),
    ],
    ids=repr,
)
def test_what_is_to_be_given_back_is_named_by_a_key_or_by_meter_and_resource(stage, body, pointers):
    assert problem(give_back(stage, **body)) == (400, "invalid_request", pointers)


def test_a_seat_is_given_back_by_nobody_s_word(stage):
    assert problem(give_back(stage, meter="members", resource="mia")) == (
        400,
        "meter_not_consumable",
        ["/meter"],
    )


EFFECTS = [
    ("/v1/authorize", CONSUME),
    ("/v1/authorize", RESERVE),
    ("/v1/reservations/x/commit", None),
    ("/v1/reservations/x/release", None),
    ("/v1/usage/release", {"workspace": "acme", "idempotency_key": "k"}),
]


@pytest.mark.parametrize(("path", "body"), EFFECTS)
@pytest.mark.parametrize(
    ("outage", "code"),
    [
        (UsageContended("55P03"), "usage_contended"),
        (FactsUnavailable("down: password=secret"), "facts_unavailable"),
    ],
)
def test_a_ledger_that_gives_no_answer_is_an_outage_and_never_a_denial(stage, path, body, outage, code):
    stage.ledger.outage = outage

    answer = post(stage, path, body)

    assert problem(answer) == (503, code, [])
    assert answer.headers["Retry-After"] == "1"
    assert b"secret" not in answer.data
    assert b"55P03" not in answer.data
    assert stage.lines[-1]["why"] == str(outage)


def test_a_verdict_that_charges_something_else_is_an_outage(stage):
    verdict = stage.engine.verdict
    stage.engine.verdict = lambda *asked, **more: replace(verdict(*asked, **more), charges={})

    assert problem(authorize(stage)) == (503, "policy_engine_misbehaved", [])


def test_the_log_says_what_was_done(stage):
    held = post(stage, "/v1/authorize", RESERVE | {"idempotency_key": "k"}).json["reservation"]["id"]
    post(stage, "/v1/authorize", RESERVE | {"idempotency_key": "k"})
    commit(stage, held)
    give_back(stage, idempotency_key="k")

    asked, again, settled, back = stage.lines
    assert (asked["mode"], asked["reservation"], asked["policy_revision"]) == ("reserve", held, REVISION)
    assert (again["replayed"], again["decision_id"]) == (True, asked["decision_id"])
    assert (settled["endpoint"], settled["reservation"]["id"]) == ("commit", held)
    assert (back["endpoint"], back["workspace"], back["released"]) == (
        "release_usage",
        "acme",
        {"minutes": 1},
    )
    assert all(line["ms"]["ledger"] > 0 for line in stage.lines)
    assert "sidecar_ledger_seconds_count 4.0" in stage.metrics.text().decode()
    assert asked["situation"]["action"] == "recording.start"
