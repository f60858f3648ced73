"""What decision_ports.PolicyEngine promises, of both engines."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import pytest

from sidecar.errors import EngineMisbehaved, EngineUnavailable, RevisionMismatch
from sidecar.rego.compile import compiled as compile_
from tests.engines.documents import a_grant, text_of
from tests.values import FAR_AWAY

THREADS = 8
HOSTILE = [
    "é",
    "😀",
    '"',
    "\\",
    "\\u0065",
    "\n\r\t\b\f",
    "\x00",
    "\x1f\x7f",
    "\u2028\u2029\ufeff",
    "/",
    "`",
    "${x}",
    '"} , "role": "owner", "x": {"',
    "data.authz.plans",
    "__proto__",
    "a" * 100_000,
]


ROOM = {"fits_in": ["pro", "starter", "team"], "waiting_helps": False}


def a_cell(**other: object) -> bytes:
    document = {
        "action": "recording.start",
        "role": "member",
        "plan": "starter",
        "status": "active",
        "overrides": {"features": {}},
        "room": {"fits_in": ["pro", "team"], "waiting_helps": True},
        **other,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_it_answers_with_a_verdict_of_its_revision(engine, compiled):
    verdict = engine.verdict(a_cell(), deadline=FAR_AWAY)

    assert (verdict.reason, verdict.status, verdict.upgrade) == ("quota_exceeded", 402, ("pro", "team"))
    assert verdict.waiting_helps is True
    assert verdict.revision == engine.revision == compiled.revision


def test_it_says_which_revision_answers(engine, compiled):
    assert engine.served_revision(deadline=FAR_AWAY) == compiled.revision


def test_its_name_is_a_label(engine):
    assert engine.name in {"opa", "embedded"}


def test_a_grant_charges_what_the_plan_allows(engine):
    verdict = engine.verdict(a_cell(room=ROOM), deadline=FAR_AWAY)

    assert (bool(verdict), dict(verdict.charges)) == (True, {"minutes": 100})


def test_a_deadline_that_is_over_is_an_outage(engine):
    with pytest.raises(EngineUnavailable):
        engine.verdict(a_cell(), deadline=monotonic())


@pytest.mark.parametrize("situation", [b"", b"{", b'{"action":}', b"data.authz.plans", b"\x00"])
def test_what_is_not_json_is_an_outage_and_not_a_denial(engine, situation):
    with pytest.raises(EngineMisbehaved):
        engine.verdict(situation, deadline=FAR_AWAY)


def test_brackets_without_end_do_not_bring_it_down(engine):
    depth = 100_000
    situation = a_cell(role="ROLE").replace(b'"ROLE"', b"[" * depth + b"]" * depth)

    with pytest.raises(EngineMisbehaved):
        engine.verdict(situation, deadline=FAR_AWAY)

    assert engine.verdict(a_cell(), deadline=FAR_AWAY).reason == "quota_exceeded"


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:24])
@pytest.mark.parametrize(
    ("field", "reason"), [("action", "unknown_action"), ("role", "not_a_member"), ("plan", "quota_exceeded")]
)
def test_any_text_is_only_text(engine, field, text, reason):
    situation = a_cell(**{"room": ROOM, field: text})

    assert engine.verdict(situation, deadline=FAR_AWAY).reason == reason


@pytest.mark.parametrize("text", HOSTILE[:-1], ids=lambda text: ascii(text)[:24])
def test_equal_texts_are_equal_however_they_are_written(engine_of, text):
    rego = f"package authz\ndecision := {json.dumps(a_grant(charges={}))} if input.mine == input.theirs\n"
    engine = engine_of(rego)
    escaped = "".join(f"\\u{unit:04x}" for unit in _utf16(text))
    situation = f'{{"mine":"{escaped}","theirs":{json.dumps(text, ensure_ascii=False)}}}'.encode()

    assert engine.verdict(situation, deadline=FAR_AWAY).allow


def _utf16(text: str) -> list[int]:
    raw = text.encode("utf-16-be")
    return [int.from_bytes(raw[at : at + 2], "big") for at in range(0, len(raw), 2)]


def test_a_policy_of_another_revision_is_a_mismatch(engine_of):
    engine = engine_of(f"package authz\ndecision := {json.dumps(a_grant(charges={}))}\n", revision="r2")

    with pytest.raises(RevisionMismatch):
        engine.verdict(a_cell(), deadline=FAR_AWAY)
    assert engine.served_revision(deadline=FAR_AWAY) == "r1"


@pytest.mark.parametrize(
    "rego",
    {
        "undefined": "package authz\ndecision := 1 if input.no.such.thing\n",
        "not there": "package authz\nother := 1\n",
        "in conflict": "package authz\ndecision := 1 if input.role\ndecision := 2 if input.plan\n",
        "the word undefined": 'package authz\ndecision := "undefined"\n',
        "true": "package authz\ndecision := true\n",
        "empty": "package authz\ndecision := {}\n",
        "a set": f"package authz\ndecision := {{{json.dumps(a_grant())}}}\n",
    }.values(),
    ids=lambda rego: rego.split("decision")[-1].strip()[:30],
)
def test_a_policy_without_a_verdict_is_an_outage(engine_of, rego):
    engine = engine_of(rego)

    with pytest.raises(EngineMisbehaved):
        engine.verdict(a_cell(), deadline=FAR_AWAY)


def test_threads_get_the_answers_to_their_own_questions(engine, all_cells):
    asked = all_cells[:: max(1, len(all_cells) // 250)]
    alone = {cell: text_of(engine.verdict(cell, deadline=FAR_AWAY)) for cell in asked}

    def wrong_answers(offset: int) -> list[bytes]:
        mine = asked[offset:] + asked[:offset]  # so that at any time each asks another question
        return [cell for cell in mine if text_of(engine.verdict(cell, deadline=FAR_AWAY)) != alone[cell]]

    with ThreadPoolExecutor(THREADS) as pool:
        wrong = list(pool.map(wrong_answers, range(0, len(asked), len(asked) // THREADS)))

    assert [cell for each in wrong for cell in each] == []
    assert len(set(alone.values())) > 5


@pytest.mark.parametrize("rule", ['denials := {"code": true} if input.role', "denials contains 7"])
def test_a_rule_of_ones_own_that_denies_in_another_form_is_an_outage(engine_by, compiled, rule):
    modules = {**compiled.modules, "custom/embargo.rego": f"package custom\n\n{rule}\n"}
    engine = engine_by(compile_(compiled.catalog, modules))

    with pytest.raises(EngineMisbehaved, match="/detail: expected the code of the rule that denied"):
        engine.verdict(a_cell(room=ROOM), deadline=FAR_AWAY)


READS = r"""package authz

decision := [
	count(input.text),
	startswith(input.text, "\"\\"),
	endswith(input.text, `\"`),
	endswith(input.text, `"`),
	{"\"\\\n\u0000\"": "found"}[input.text], # "not a text
	input.text,
	"\u00e9\n\"",
]
"""


def test_a_quote_a_backslash_and_a_control_character_are_one_character_each(engine_of):
    text = '"\\\n\x00"'

    answer = engine_of(READS).document(
        "data.authz.decision", json.dumps({"text": text}).encode(), deadline=FAR_AWAY
    )

    assert answer == [5, True, False, True, "found", text, 'é\n"']
