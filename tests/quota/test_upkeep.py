"""`sidecar recount` and `sidecar tidy`, as an operator runs them."""

from __future__ import annotations

import json
import sys
from functools import partial

import psycopg
import pytest

from sidecar.cli import main
from sidecar.errors import UnknownIdempotencyKey, UnknownReservation
from tests.quota.place import while_others

pytestmark = pytest.mark.postgres


@pytest.fixture
def sidecar(own, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sidecar", *arguments])
        monkeypatch.setenv("SIDECAR_DATABASE_URL", own.url)
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def spoil(own):
    """A workspace with everything wrong that can be."""
    acme = own.workspace("large", mia="member", max="reader")
    own.ask("record", acme, amounts={"minutes": 5}, idempotency_key="k")
    own.ask("unlock", acme, amounts={"lifetime": 2})
    own.ask("create", acme, resource="kept")
    own.ask("create", acme, amounts={"projects": 2}, resource="lost")
    own.ask("create", acme, resource="ghost")
    own.give_back(acme, "projects", "ghost")
    for query in (
        "UPDATE authz.workspace_usage SET used = 7 WHERE meter = 'minutes' AND workspace_id = %s",
        "DELETE FROM authz.workspace_usage WHERE meter = 'lifetime' AND workspace_id = %s",
        "DELETE FROM authz.usage_resources WHERE resource = 'lost' AND workspace_id = %s",
        "INSERT INTO authz.usage_resources VALUES (%s, 'projects', 'ghost', 4, 'd', 'r')",
        "UPDATE authz.workspaces SET member_count = 9 WHERE id = %s",
    ):
        own.sql(query, acme.id)
    return acme


LEFT = ("ledger", "keys", "resources", "reservations", "holds")
WRONG = [
    '"lifetime" counts 0, its ledger adds up to 2',
    '"minutes" counts 7, its ledger adds up to 5',
    "9 members are counted, and there are 2 memberships",
    '"projects" has 4 of "ghost", its ledger 0',
    '"projects" has 0 of "lost", its ledger 2',
]


def test_what_is_right_is_exit_code_0(own, sidecar):
    for _ in range(3):
        own.ask("record", own.workspace("large"))

    assert sidecar("recount") == (0, "every counter is the sum of its ledger\n", "")
    assert json.loads(sidecar("recount", "--json")[1]) == {"miscounts": [], "fixed": False}


def test_whatever_is_miscounted_is_a_line_and_stays_as_it_is(own, sidecar):
    sound, acme = own.workspace("large"), spoil(own)
    own.ask("record", sound)

    for _ in range(2):
        code, output, errors = sidecar("recount")
        assert (code, output.splitlines()) == (1, [f"{acme.slug}: {line}" for line in WRONG])
        assert errors == "5 miscounts, left as they are: --fix puts them right\n"


def test_with_fix_the_ledger_holds_and_a_second_time_nothing_is_found(own, sidecar):
    acme = spoil(own)

    code, output, errors = sidecar("recount", "--fix")

    assert (code, len(output.splitlines()), errors) == (1, 5, "5 miscounts, put right\n")
    assert sidecar("recount")[0] == 0
    assert (own.used(acme, "minutes"), own.used(acme, "lifetime"), own.used(acme, "projects")) == (5, 2, 3)
    assert own.usage(acme, "seats").used == 2
    assert own.ask("create", acme, amounts={"projects": 2}, resource="lost").replayed is True
    assert own.give_back(acme, "projects", "ghost").replayed is True
    assert own.refund(acme, "k").now.usage["minutes"].used == 0


def test_as_json_it_is_one_document(own, sidecar):
    acme = spoil(own)

    code, output, errors = sidecar("recount", "--fix", "--json")

    document = json.loads(output)
    assert (code, errors, document["fixed"], len(document["miscounts"])) == (1, "", True, 5)
    assert document["miscounts"][1] == {
        "workspace": acme.slug,
        "kind": "counter",
        "meter": "minutes",
        "resource": None,
        "counted": 7,
        "expected": 5,
    }


def test_every_workspace_is_looked_at_page_by_page(own, sidecar, monkeypatch):
    monkeypatch.setattr("sidecar.store.upkeep._WORKSPACES_AT_ONCE", 2)
    places = [own.workspace("large") for _ in range(7)]
    for each in places:
        own.ask("record", each)
    own.sql("UPDATE authz.workspace_usage SET used = used + 1")

    lines = sidecar("recount", "--fix")[1].splitlines()

    assert sorted(line.split(":")[0] for line in lines) == sorted(each.slug for each in places)
    assert sidecar("recount")[0] == 0


def test_nobody_waits_while_counters_are_compared(own, sidecar):
    acme = own.workspace("large")
    own.ask("record", acme)
    with psycopg.connect(own.url) as spender:
        spender.execute("SELECT 1 FROM authz.workspace_usage FOR UPDATE")
        spender.execute("SELECT 1 FROM authz.workspaces FOR UPDATE")

        assert sidecar("recount")[0] == 0


def test_what_is_put_right_while_many_spend_is_right(own, sidecar):
    acme = own.workspace("endless")
    own.ask("record", acme)

    def spoil_and_put_right():
        for _ in range(5):
            own.sql("UPDATE authz.workspace_usage SET used = used + 100 WHERE workspace_id = %s", acme.id)
            own.sql("SELECT authz.recount(%s)", acme.id)
            own.sql("DELETE FROM authz.workspace_usage WHERE workspace_id = %s", acme.id)
            own.sql("SELECT authz.recount(%s)", acme.id)

    spoilt, *others = while_others(4, spoil_and_put_right, partial(own.ask, "record", acme))

    assert (spoilt, [each.allowed for each in others]) == (None, [True] * 4)
    own.sql("SELECT authz.recount(%s)", acme.id)
    assert own.used(acme, "minutes") == len(own.ledger_of(acme))
    assert sidecar("recount")[0] == 0


def test_what_is_over_is_removed_and_what_is_not_stays(own, sidecar):
    acme = own.workspace("large")
    held = [own.ask("record", acme, "reserve", ttl_s=3_600).reservation.id for _ in range(3)]
    for key in ("old", "new", "locked"):
        own.ask("record", acme, idempotency_key=key)
    own.ask("unlock", acme, idempotency_key="for ever")
    own.expire(held[0])
    own.expire(held[1])
    own.sql(
        "UPDATE authz.usage_reservations SET expires_at = now() - interval '31 days' WHERE id = %s", held[1]
    )
    own.sql("UPDATE authz.usage_keys SET expires_at = now() WHERE key IN ('old', 'locked')")

    with psycopg.connect(own.url) as user:
        user.execute("SELECT 1 FROM authz.usage_keys WHERE key = 'locked' FOR UPDATE")
        assert sidecar("tidy") == (
            0,
            "removed 4 rows that were over\n",
            "",
        )  # a key, two holds, a reservation

    assert json.loads(sidecar("tidy", "--json")[1])["removed"] == 1
    assert json.loads(sidecar("tidy", "--json")[1]) == {
        "removed": 0,
        "pruned": None,
        "folded": None,
        "anchors": 0,
        "compressed": 0,
        "days": [],
    }
    assert own.sql("SELECT key FROM authz.usage_keys ORDER BY key") == [("for ever",), ("new",)]
    assert own.usage(acme, "minutes").reserved == 1
    assert own.commit(held[0]).committed == own.commit(held[2]).committed == {"minutes": 1}
    with pytest.raises(UnknownReservation):
        own.commit(held[1])
    with pytest.raises(UnknownIdempotencyKey):
        own.refund(acme, "old")
    assert sidecar("recount")[0] == 0


def test_all_pages_of_the_tables_are_tidied(own, sidecar, monkeypatch):
    monkeypatch.setattr("sidecar.store.upkeep._PAGES_AT_ONCE", 3)
    acme = own.workspace("endless")
    for number in range(200):
        own.ask("record", acme, idempotency_key=f"k{number}")
    own.sql("UPDATE authz.usage_keys SET expires_at = now() WHERE key <> 'k7'")

    assert sidecar("tidy")[1] == "removed 199 rows that were over\n"
    assert own.sql("SELECT key FROM authz.usage_keys") == [("k7",)]


def test_usage_that_an_operator_sets_is_the_sum_of_its_ledger_too(own, sidecar):
    acme = own.workspace("large")
    own.ask("create", acme, amounts={"projects": 2}, resource="r", idempotency_key="k")
    own.ask("create", acme)
    held = own.ask("record", acme, "reserve").reservation.id
    set_usage = partial(own.sql, "SELECT authz.set_usage(%s, %s, %s)", acme.id)

    set_usage(["minutes", "projects"], [97, 5])

    assert (own.used(acme, "minutes"), own.used(acme, "projects")) == (97, 5)
    assert own.usage(acme, "minutes").reserved == 0
    with pytest.raises(UnknownReservation):
        own.commit(held)
    with pytest.raises(UnknownIdempotencyKey):
        own.refund(acme, "k")
    assert own.give_back(acme, "projects", "r").replayed is True
    assert sidecar("recount")[0] == 0
    set_usage([], [])
    assert own.sql("SELECT 1 FROM authz.workspace_usage") == []
    assert sidecar("recount")[0] == 0


def test_a_workspace_that_goes_leaves_nothing_behind(own):
    acme = own.workspace("large")
    own.ask("create", acme, resource="r", idempotency_key="k")
    own.ask("record", acme, "reserve")

    own.sql("DELETE FROM authz.workspaces WHERE id = %s", acme.id)

    for table in ("workspace_usage", *(f"usage_{each}" for each in LEFT)):
        assert own.sql(f"SELECT 1 FROM authz.{table}") == []


@pytest.mark.parametrize("command", ["recount", "tidy"])
def test_a_database_that_cannot_be_asked_is_one_line(own, sidecar, command):
    code, output, errors = sidecar(command, "--database-url", own.url.replace("/authz_test_", "/no_such_"))

    assert (code, output, errors.count("\n")) == (69, "", 1)
    assert errors.startswith("sidecar: PostgreSQL: ")


def test_what_a_recount_cannot_mend_is_not_called_put_right(own, sidecar):
    """A ledger below 0, as a deletion by hand of what was taken leaves it: no counter can be that."""
    acme = spoil(own)
    own.sql("DELETE FROM authz.usage_ledger WHERE meter = 'minutes' AND workspace_id = %s", acme.id)
    own.sql(
        """INSERT INTO authz.usage_ledger (workspace_id, at, meter, period_start, amount, kind)
        SELECT workspace_id, now(), meter, period_start, -3, 'release' FROM authz.workspace_usage
        WHERE meter = 'minutes' AND workspace_id = %s""",
        acme.id,
    )

    for _ in range(2):
        code, output, errors = sidecar("recount", "--fix")
        assert code == 1
        assert '"minutes" counts' in output
        assert "1 cannot be put right by a recount" in errors
    assert json.loads(sidecar("recount", "--fix", "--json")[1])["fixed"] is False
