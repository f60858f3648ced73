"""`sidecar tidy` and old usage: sums for lines, and nobody who spends notices."""

from __future__ import annotations

import random
import subprocess
import sys
import time

import psycopg
import pytest

from sidecar.errors import UnknownIdempotencyKey
from sidecar.store.upkeep import fold_usage, miscounts, tidy
from tests.quota.place import together

pytestmark = pytest.mark.postgres

SUMS = """
    SELECT workspace_id, meter, period_start::text, sum(amount)
    FROM authz.usage_ledger GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""
KINDS = "SELECT kind, count(*) FROM authz.usage_ledger GROUP BY 1 ORDER BY 1"
AN_OLD_LINE = """
    INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind, resource)
    VALUES (%s, now() - make_interval(days => %s), %s,
        CASE WHEN %s THEN '-infinity' ELSE date_trunc('month', now() - make_interval(days => %s), 'UTC') END,
        %s, %s, %s)
"""


def old_line(own, at, *, days, meter="minutes", amount=1, kind="consume", resource=None):
    for_ever = meter in ("lifetime", "projects")
    own.sql(AN_OLD_LINE, at.id, days, meter, for_ever, days, amount, kind, resource)


def many_old_lines(own, at, number):
    own.sql(
        """INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
        SELECT %s, d.at, 'minutes', date_trunc('month', d.at, 'UTC'), 1 + n %% 5, 'consume'
        FROM generate_series(1, %s) AS n,
            LATERAL (SELECT now() - make_interval(days => 400 + n %% 200) AS at) AS d""",
        at.id,
        number,
    )


def found(own):
    return [
        (each.kind, each.meter, each.resource, each.counted, each.expected, each.period_start)
        for each in miscounts(own.url, fix=False)
    ]


def test_lines_of_a_period_that_ended_long_ago_become_one_and_a_second_time_there_is_nothing_to_do(own):
    acme = own.workspace("large", subscribed="now() - interval '3 years'")
    own.ask("record", acme, amounts={"minutes": 5})
    for amount in (3, 4, -2):
        old_line(own, acme, days=500, amount=amount)
    before = own.sql(SUMS)

    assert fold_usage(own.url, keep_months=12) == 3

    assert own.sql(KINDS) == [("carried", 1), ("consume", 1)]
    assert own.sql(SUMS) == before
    assert fold_usage(own.url, keep_months=12) == 0
    assert own.sql("SELECT amount, login FROM authz.usage_ledger WHERE kind = 'carried'") == [(5, "postgres")]


def test_what_comes_late_to_a_period_is_added_to_its_sum(own):
    acme = own.workspace("large")
    for _ in range(2):
        old_line(own, acme, days=500, amount=3)
        assert fold_usage(own.url, keep_months=12) == 1

    assert own.sql("SELECT kind, amount FROM authz.usage_ledger") == [("carried", 6)]


def test_what_is_not_over_for_so_long_or_never_ends_stays(own):
    acme = own.workspace("large")
    old_line(own, acme, days=380)  # its month ended a year ago, but hardly
    old_line(own, acme, days=100)
    old_line(own, acme, days=900, meter="lifetime")
    old_line(own, acme, days=900, meter="projects", resource="r")
    # A line that came late to a period of long ago, and one that a wrong clock has charged to another period.
    own.sql(
        "INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind) VALUES "
        "(%s, now(), 'minutes', now() - interval '900 days', -1, 'release'), "
        "(%s, now() - interval '900 days', 'minutes', now() - interval '800 days', 1, 'consume')",
        acme.id,
        acme.id,
    )
    wrong = found(own)

    assert fold_usage(own.url, keep_months=12) == 0
    assert found(own) == wrong


@pytest.mark.parametrize("seed", range(3))
def test_whatever_is_in_the_ledger_a_recount_finds_the_same_before_and_after(own, seed, monkeypatch):
    monkeypatch.setattr("sidecar.store.upkeep._LEDGER_PAGES_AT_ONCE", 1)
    monkeypatch.setattr("sidecar.store.upkeep._LINES_AT_ONCE", 7)
    chance = random.Random(seed)  # noqa: S311 # chance, no secret
    places = [own.workspace("endless", subscribed="now() - interval '3 years'") for _ in range(4)]
    for _ in range(300):
        old_line(
            own,
            chance.choice(places),
            days=chance.randrange(900),
            meter=chance.choice(["minutes", "lifetime", "projects", "gone"]),
            amount=chance.choice([-3, 1, 2, 9]),
            kind=chance.choice(["consume", "commit", "release", "adjust"]),
            resource=chance.choice([None, "r"]),
        )
    own.sql(  # half of what differs is put right, and a counter is left in a period of long ago
        "INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used) "
        "SELECT l.workspace_id, l.meter, min(l.period_start), 7 FROM authz.usage_ledger AS l "
        "WHERE l.meter <> 'projects' GROUP BY 1, 2 ON CONFLICT DO NOTHING"
    )
    wrong, sums = found(own), own.sql(SUMS)

    assert fold_usage(own.url, keep_months=6) > 50

    assert (found(own), own.sql(SUMS)) == (wrong, sums)
    assert wrong
    assert (
        own.sql(
            "SELECT workspace_id FROM authz.usage_ledger WHERE kind = 'carried' "
            "GROUP BY workspace_id, meter, period_start HAVING count(*) > 1"
        )
        == []
    )


def test_two_at_once_beside_who_spends_and_who_purges_lose_nothing(own, monkeypatch):
    monkeypatch.setattr("sidecar.store.upkeep._LEDGER_PAGES_AT_ONCE", 2)
    acme, other, doomed = (own.workspace("endless") for _ in range(3))
    for each in (acme, other, doomed):
        own.ask("record", each)
        many_old_lines(own, each, 2_000)
    before = {(w, m, p): s for w, m, p, s in own.sql(SUMS) if w != doomed.id and s != 1}

    def fold():
        fold_usage(own.url, keep_months=12)

    def purge():
        with psycopg.connect(own.url) as operator:
            operator.execute("DELETE FROM authz.workspaces WHERE id = %s", (doomed.id,))

    def spend():
        for _ in range(30):
            own.ask("record", acme)
            own.ask("record", other, idempotency_key=f"k{time.monotonic_ns()}")

    together(spend, fold, fold, purge)
    fold()

    after = {(w, m, p): s for w, m, p, s in own.sql(SUMS)}
    assert found(own) == []
    assert {key: after.get(key) for key in before} == before
    assert own.sql("SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = %s", doomed.id) == [(0,)]
    assert own.sql("SELECT count(*) FROM authz.usage_ledger WHERE kind = 'consume'") == [(62,)]


def test_one_that_is_killed_has_folded_a_part_and_the_next_does_the_rest(own):
    acme = own.workspace("endless")
    many_old_lines(own, acme, 60_000)
    before = own.sql(SUMS)
    killed = subprocess.Popen(
        [sys.executable, "-m", "sidecar", "tidy", "--database-url", own.url, "--keep-months", "12"],
        stdout=subprocess.DEVNULL,
    )
    lines = "SELECT count(*) FROM authz.usage_ledger WHERE kind = 'consume'"
    ends = time.monotonic() + 30
    while own.sql(lines) == [(60_000,)] and time.monotonic() < ends:
        time.sleep(0.01)
    killed.kill()
    killed.wait(30)

    assert own.sql(SUMS) == before
    assert own.sql(lines) < [(60_000,)]
    fold_usage(own.url, keep_months=12)
    assert (own.sql(lines), own.sql(SUMS)) == ([(0,)], before)


def test_a_key_that_nothing_resets_goes_by_its_age_unless_something_is_given_back_by_it(own):
    acme = own.workspace("large")
    own.ask("unlock", acme, idempotency_key="spent")
    own.ask("unlock", acme, idempotency_key="new")
    own.ask("create", acme, idempotency_key="a thing without a name")
    own.ask("create", acme, idempotency_key="a thing with a name", resource="r")
    own.ask("unlock", acme, "reserve", ttl_s=3_600, idempotency_key="open")
    own.sql("UPDATE authz.usage_keys SET at = now() - interval '36 days' WHERE key <> 'new'")

    assert tidy(own.url, key_days=35) == 2

    assert {key for (key,) in own.sql("SELECT key FROM authz.usage_keys")} == {
        "new",
        "a thing without a name",
        "open",
    }
    with pytest.raises(UnknownIdempotencyKey):
        own.refund(acme, "spent")
    assert own.refund(acme, "a thing without a name").released == {"projects": 1}
    assert own.ask("create", acme, idempotency_key="a thing with a name", resource="r").replayed is True
    assert found(own) == []


def test_a_refund_of_a_period_that_was_folded_is_booked_in_that_period(own):
    acme = own.workspace("large")
    own.ask("tour", acme, idempotency_key="k")  # of a counter that never restarts, too: its key stays
    month = "date_trunc('month', now() - interval '500 days', 'UTC')"
    own.sql(
        "UPDATE authz.usage_ledger SET at = now() - interval '500 days', "
        f"period_start = {month} WHERE meter = 'minutes'"
    )
    own.sql(f"UPDATE authz.usage_keys SET starts[array_position(meters, 'minutes')] = {month}")
    own.sql("DELETE FROM authz.workspace_usage WHERE meter = 'minutes'")
    assert fold_usage(own.url, keep_months=12) == 1

    assert own.refund(acme, "k").released == {"lifetime": 1, "minutes": 1}

    assert [(amount, kind) for meter, amount, kind in own.ledger_of(acme) if meter == "minutes"] == [
        (1, "carried"),
        (-1, "release"),
    ]
    assert found(own) == []
