"""Lines of a log put to a policy again: to their own, and to another one by the questions they were."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import UUID

import pytest

from sidecar.audit.against import Against
from sidecar.audit.replay import Counted, NotKept, Replay, decisions_in
from sidecar.audit.selection import Overridden, Purchases, Selected, Wanted, selected
from sidecar.decisions.model import Facts, Question, Usage
from sidecar.decisions.room import Rooms
from sidecar.decisions.situation import situation_bytes, situation_of
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.telemetry.logged import asked_line, found_line
from tests.audit.logs import BEGAN, SITUATION, decision, shown

VERDICT = {
    "allow": False,
    "charges": {},
    "detail": None,
    "needs": {"feature": "analytics"},
    "reason": "feature_not_in_plan",
    "revision": "r" * 32,
    "status": 402,
    "upgrade": ["pro", "team"],
    "waiting_helps": False,
}
GRANT = {
    "allow": True,
    "reason": "granted",
    "status": 200,
    "upgrade": [],
    "needs": {},
    "charges": {"minutes": 100},
}


class AFile(list[bytes]):
    name = "log.jsonl"
    torn = damage = None


def lines_of(*lines):
    return [AFile(line + b"}" for line in lines)]


def replayed(*lines, verdicts=None, **settings):
    counted, asked = Counted(), []

    def verdict_of(revision, situation):
        if revision != "r" * 32:
            raise NotKept
        asked.append(situation)
        return (verdicts or {}).get(situation, VERDICT)

    replay = Replay(verdict_of, counted)
    for place, line in decisions_in(lines_of(*lines), counted, decode=asked_line, **settings):
        replay.add(place, line)
    replay.close()
    return counted, asked


def test_equal_situations_are_asked_once_whatever_the_order_of_their_fields():
    turned = dict(reversed(SITUATION.items()))
    counted, asked = replayed(decision(1), decision(2), decision(3, situation=turned))

    assert (counted.same, counted.decisions, len(asked)) == (3, 3, 1)


@pytest.mark.parametrize(
    "differing",
    [
        {"allow": True},
        {"status": 403},
        {"reason": "role_insufficient"},
        {"detail": "embargoed"},
        {"upgrade": ["team", "pro"]},
        {"needs": {"feature": "x"}},
        {"needs": {}},
        {"charges": {"minutes": 1}},
        {"waiting_helps": True},
        {"charges": None},
    ],
)
def test_each_part_of_a_verdict_is_compared(differing):
    counted, _ = replayed(decision(1), decision(2, **differing), decision(3))

    assert counted.same == 2
    [one] = counted.different
    assert (one.line, one.decision_id) == (2, f"{2:032x}")
    assert one.replayed == VERDICT


def without(line, *names):
    document = {name: value for name, value in json.loads(line + b"}").items() if name not in names}
    return json.dumps(document).encode()[:-1]


def test_a_line_of_version_1_must_have_the_whole_verdict_and_one_of_version_0_what_it_had():
    parts = ("charges", "upgrade", "needs", "waiting_helps")

    assert len(replayed(without(decision(1), "needs"))[0].different) == 1
    assert replayed(without(decision(1), "waiting_helps"))[0].same == 1
    assert replayed(without(decision(1), "v", "kind", *parts))[0].same == 1
    assert len(replayed(without(decision(1, status=403), "v", "kind", *parts))[0].different) == 1


def test_what_cannot_be_replayed_is_counted_by_why():
    counted, _ = replayed(
        decision(1, situation_sha256="x"),
        without(decision(2), "situation"),
        b'{"v":1,"kind":"listing","action":{"name":"x"}',
        b'{"v":2',
        b"no line",
        decision(3, policy_revision="another"),
        decision(4, replayed=True),
    )

    assert counted.not_replayable == {"no_situation": 2, "masked": 1, "no_original": 1, "unread": 2}
    assert (counted.not_kept, counted.decisions, counted.lines) == ({"another": 1}, 0, 7)


def test_an_answer_that_was_given_again_is_compared_with_the_first_one():
    taken = {situation(role="member"): VERDICT | GRANT}
    first = decision(1, mode="consume", situation=json.loads(situation(role="member")), **GRANT)
    again = decision(1, mode="consume", replayed=True, situation=SITUATION, **GRANT)
    wrong = decision(1, mode="consume", replayed=True, **(GRANT | {"status": 403}))

    assert replayed(again, first, verdicts=taken)[0].same == 2
    counted, _ = replayed(first, wrong, verdicts=taken)
    assert [one.line for one in counted.different] == [2]


def situation(**differing):
    return json.dumps(SITUATION | differing, sort_keys=True, separators=(",", ":")).encode()


def test_a_time_or_an_id_narrows_what_is_replayed():
    lines = [decision(number, at=BEGAN + timedelta(minutes=number)) for number in range(4)]

    assert (
        replayed(*lines, since=BEGAN + timedelta(minutes=1), until=BEGAN + timedelta(minutes=3))[0].lines == 2
    )
    assert replayed(*lines, decision=f"{2:032x}")[0].lines == 1


# Against another policy: the situation is made anew, as that catalog would have made it.


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plans")
    text = shipped("plans.yaml").read_text()
    for before, after in (("{minutes: 100,", "{minutes: 60,"),):
        assert before in text
        text = text.replace(before, after)
    (folder / "plans.yaml").write_text(text)
    return compiled_at(shipped("plans.yaml"), shipped("policies")), compiled_at(
        folder / "plans.yaml", shipped("policies")
    )


def noting(asked):
    def verdict_of(situation):
        asked.append(situation)
        return VERDICT

    return verdict_of


@pytest.mark.parametrize("used", [0, 54, 55, 56, 59, 60, 99, 100])
@pytest.mark.parametrize("override", [None, 80])
@pytest.mark.parametrize("amounts", [{"minutes": 1}, {"minutes": 5}])
def test_a_situation_for_another_catalog_is_the_one_that_it_would_have_made(
    policies, used, override, amounts
):
    old, new = policies
    facts = Facts(
        workspace_id=UUID(int=1),
        slug="solo",
        name="solo",
        role="member",
        plan="starter",
        status="active",
        feature_overrides={},
        limit_overrides={} if override is None else {"minutes": override},
        usage={
            name: Usage(used=used if name == "minutes" else 0, reserved=0, resets_at=BEGAN)
            for name in old.catalog.meters
        },
        at=BEGAN,
        token=None,
    )

    def of(compiled):
        question = Question(user="sam", workspace="solo", action="recording.start", amounts=amounts)
        return situation_bytes(
            situation_of(
                question,
                facts,
                catalog=compiled.catalog,
                room=Rooms(compiled.catalog).room_for(amounts, facts),
                context_fields=frozenset(),
            )
        )

    asked: list[bytes] = []
    against = Against(new.catalog, new.context_fields, noting(asked))
    limit = {"limit": 100 if override is None else override, "of": "plan" if override is None else "override"}
    line = decision(
        1,
        action="recording.start",
        amounts=amounts,
        situation=json.loads(of(old)),
        limits={"minutes": limit | {"used": used, "reserved": 0}},
    )
    against.add(asked_line(line + b"}"))

    assert asked == [of(new)]


def test_a_name_that_was_renamed_since_is_asked_by_its_new_one(policies, tmp_path):
    text = shipped("plans.yaml").read_text()
    assert "  analytics.view: {role" in text
    (tmp_path / "plans.yaml").write_text(
        text.replace(
            "  analytics.view: {role", "  insights.view: {renamed_from: analytics.view, role"
        ).replace("action: analytics.view}", "action: insights.view}")
    )
    new = compiled_at(tmp_path / "plans.yaml", shipped("policies"))
    asked: list[bytes] = []
    against = Against(new.catalog, new.context_fields, noting(asked))
    against.add(asked_line(decision(1) + b"}"))

    assert [json.loads(each)["action"] for each in asked] == ["insights.view"]
    assert (against.same, against.document) == (1, [])


def test_transitions_count_decisions_people_and_workspaces():
    new = compiled_at(shipped("plans.yaml"), shipped("policies"))
    against = Against(new.catalog, new.context_fields, lambda _: VERDICT | {"status": 403, "upgrade": []})
    for number in range(6):
        against.add(asked_line(decision(number, user=f"u{number % 3}", workspace_id=f"w{number % 2}") + b"}"))

    assert against.document == [{"from": 402, "to": 403, "decisions": 6, "people": 3, "workspaces": 2}]


# Which lines are wanted.


def found(wanted, *lines):
    counted = Selected()
    rows = list(selected(lines_of(*lines), wanted, decode=found_line, counted=counted))
    return [line.decision_id for _, line in rows], counted


def test_an_overridden_feature_and_limit_are_told_apart():
    feature = decision(1, situation=SITUATION | {"overrides": {"features": {"analytics": False}}})
    limit = decision(2, limits={"minutes": {"limit": 5, "of": "override", "used": 0, "reserved": 0}})
    neither = decision(3, limits={"minutes": {"limit": 5, "of": "plan", "used": 0, "reserved": 0}})
    ids: dict[Overridden, list[str]] = {
        "feature": [f"{1:032x}"],
        "limit": [f"{2:032x}"],
        "any": [f"{1:032x}", f"{2:032x}"],
    }

    for override, wanted in ids.items():
        assert found(Wanted(override=override), feature, limit, neither)[0] == wanted


def test_who_did_it_themselves_is_found_by_their_name():
    line = decision(1, user="mia", end_user="adam")

    assert found(Wanted(user=frozenset({"adam"})), line)[0] == [f"{1:032x}"]
    assert found(Wanted(user=frozenset({"eve"})), line)[0] == []


def test_what_was_bought_is_the_first_plan_that_the_denial_offered():
    def change(days, plan):
        return {"workspace_id": "w", "at": BEGAN + timedelta(days=days), "data": {"to": plan}}

    changes = [change(-1, "team"), change(1, "starter"), change(3, "team"), change(5, "pro")]
    line = found_line(decision(1, workspace_id="w") + b"}")

    assert Purchases(changes, within=timedelta(days=30)).after(line) == BEGAN + timedelta(days=3)
    assert Purchases(changes, within=timedelta(days=2)).after(line) is None
    assert shown(BEGAN) == line.at
