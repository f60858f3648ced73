"""What a decision log says itself of its holes, and what a database knows that must stand in it."""

from __future__ import annotations

import json
from datetime import timedelta

from sidecar.audit.chain import Chain
from sidecar.audit.completeness import Change, Completeness, Mark
from sidecar.audit.masks import mac_of
from sidecar.telemetry.logged import sealed_line
from tests.audit.logs import BEGAN, decision, line_of

SOON = BEGAN + timedelta(minutes=1)


def told(*lines, writer="host-a-1", **settings):
    chain, complete = Chain(writer), Completeness(looks_up=True, **settings)
    for number, line in enumerate(lines, 1):
        sealed = chain.seal(line)[:-1]
        complete.add("log.jsonl", number, sealed, sealed_line(sealed))
    return complete


def details(gaps):
    return [gap.detail for gap in gaps]


def own_gaps(*lines, **settings):
    return details(told(*lines).gaps_of_writers(begins_later=False, **settings))


BEGIN, END = line_of("begin"), line_of("end")


def test_a_log_tells_its_own_holes():
    dropped = line_of("dropped", at=SOON, count=1_204, since="2026-11-26T08:00:07Z")
    skipped = [line_of("skipped", what="check-grants", count=number) for number in (1_000, 1)]

    assert own_gaps(BEGIN, END) == []
    assert own_gaps(BEGIN, dropped, END) == [
        "dropped 1,204 lines between 08:00:07Z and 08:01:00Z, as it says itself"
    ]
    assert own_gaps(BEGIN, *skipped, END) == ["left out 1,001 granted checks, as it was set to"]
    assert own_gaps(END) == ["no line says when it began"]
    assert own_gaps(BEGIN) == ["ends at 1 without an end line: it was killed; up to 20 ms may be missing"]


def test_who_wrote_after_the_end_that_was_asked_for_needs_no_end():
    lines = BEGIN, decision(1, at=SOON)

    assert own_gaps(*lines, until=BEGAN) == []
    assert own_gaps(*lines, until=SOON + timedelta(seconds=1)) != []


def test_an_effect_needs_a_line_that_can_have_had_it():
    complete = told(
        decision(1, allow=True, mode="consume"),
        decision(2, allow=False, mode="consume"),
        decision(3, allow=True),
        decision(4, allow=True, end_user="sam"),
    )
    ids = [f"{number:032x}" for number in range(1, 6)]

    missing = [gap.decision_id for gap in complete.gaps_of_effects((each, BEGAN) for each in ids)]
    assert missing == [ids[1], ids[2], ids[4]]


def test_a_change_needs_a_line_of_its_decision_and_its_user():
    complete = told(
        decision(1, allow=True, end_user="sam"),
        line_of("change", decision_id=f"{2:032x}", user="sam"),
        decision(3, allow=False, end_user="sam"),
    )

    def gaps(number, actor="sam"):
        decision_id = f"{number:032x}" if number else None
        change = Change(id=7, at=BEGAN, actor=actor, decision_id=decision_id)
        return [
            (gap.id, gap.detail.partition(" 2026-11-26T08:00:00Z ")[2])
            for gap in complete.gaps_of_changes([change])
        ]

    assert (gaps(1), gaps(2)) == ([], [])
    assert gaps(3) == gaps(4) == [(7, "has no line of its decision")]
    assert gaps(1, "eve") == [(7, "names a decision about another user")]
    assert gaps(None) == [(7, "names no decision")]


def test_a_masked_user_is_found_with_the_key():
    key = b"0123456789abcdef"
    line = decision(1, allow=True, user=mac_of(key, "sam"), end_user=mac_of(key, "sam"))
    change = Change(id=7, at=BEGAN, actor="sam", decision_id=f"{1:032x}")

    assert len(told(line).gaps_of_changes([change])) == 1
    assert told(line, masked=lambda name: mac_of(key, name)).gaps_of_changes([change]) == []


def a_mark(**differing):
    return Mark(
        **{
            "id": 3,
            "at": BEGAN,
            "rows": 2,
            "sha256": "aa",
            "rows_now": 2,
            "sha256_now": "aa",
            "pruned": False,
            **differing,
        }
    )


def test_a_digest_of_the_history_must_fit_its_line_and_its_rows():
    complete = told(line_of("history", mark=3, sha256="aa", rows=2))

    def broken(*marks):
        return [
            (each.what, each.line, each.detail.partition(": ")[2])
            for each in complete.broken_marks(marks, since=BEGAN, until=SOON)
        ]

    assert broken(a_mark()) == []
    assert broken(a_mark(sha256_now="bb", rows_now=1, pruned=True)) == []
    assert broken(a_mark(sha256_now="bb", rows_now=1)) == [
        ("rewritten", 1, "the history is not what it was made of: 2 rows then, 1 now")
    ]
    assert broken(a_mark(sha256="bb", sha256_now="bb")) == [
        ("rewritten", 1, "the database has another one of this number")
    ]
    assert broken() == [("rewritten", 1, "the database does not have it any more")]
    assert complete.broken_marks([], since=SOON, until=SOON) == []
    assert [gap.id for gap in complete.gaps_of_marks([a_mark(), a_mark(id=4)])] == [4]


def test_revisions_and_what_stands_in_no_history_are_told():
    complete = told(decision(1), decision(2, policy_revision="other"))
    row = {
        "workspace": "acme",
        "workspace_id": "1",
        "what": "member",
        "name": "eve",
        "recorded": None,
        "stored": "admin",
    }

    assert details(complete.gaps_of_revisions(frozenset({"other"}))) == [
        f"revision {'r' * 32} was never published to this database"
    ]
    assert details(complete.gaps_of_unaccounted([row])) == [
        'member eve of acme: the history tells nothing, the table has "admin"'
    ]


def test_the_first_and_last_moment_are_those_of_the_lines():
    later = json.loads(decision(1, at=BEGAN) + b"}") | {"at": "2026-11-26T09:30:00+01:00"}
    complete = told(decision(1, at=SOON), decision(2), json.dumps(later).encode()[:-1])

    assert complete.between == (BEGAN, BEGAN + timedelta(minutes=30))
