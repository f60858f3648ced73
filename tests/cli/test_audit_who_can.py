"""`sidecar audit who-can`: nobody is left out, by the policy that ruled, now and then."""

from __future__ import annotations

import json
from datetime import UTC

import pytest

from sidecar.decisions.authorizer import Authorizer
from sidecar.engines.installed import embedded_engine
from sidecar.rego.load import compiled_at
from sidecar.store.postgres import PostgresFacts
from tests.cli.a_company import audit, company
from tests.values import FAR_AWAY, a_question

__all__ = ["audit", "company"]

ACME = ("workspace.delete", "--workspace", "acme")


def asked(audit, *arguments):
    code, out, err = audit("who-can", *arguments, "--json")
    assert err == "" or code in {0, 1}, err
    return code, json.loads(out)


def who(report, *, may=True):
    return [(row["workspace"], row["user"]) for row in report["rows"] if row["may"] is may]


def moment(company):
    ((at,),) = company.rows("SELECT clock_timestamp()")
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def forge(company, *lines):
    """A history of its own for acme, and policies published before it: (kind, moment, data, actor, kind)."""
    id_ = company.id_of("acme")
    company.unseen(
        f"DELETE FROM authz.outbox WHERE workspace_id = '{id_}'",
        "UPDATE authz.outbox SET at = '2026-01-01Z'",
        "UPDATE authz.policy_history SET at = '2026-01-01Z'",
        *(
            "INSERT INTO authz.outbox (at, workspace_id, kind, data, actor, actor_kind)"
            f" VALUES ('{at}', '{id_}', '{kind}', '{data}', '{actor}', 'user')"
            for kind, at, data, actor in lines
        ),
    )


def test_who_may_now_is_told_with_role_grantor_and_need(audit, company):
    code, report = asked(audit, *ACME)

    assert code == 0
    assert report["quotas_looked_at"] is True
    assert report["made"]["population"] == {"workspaces": 1, "members": 3, "may": 1, "not_understood": 0}
    assert report["made"]["login"] == "authz_test_auditor"
    adam, _, olivia = report["rows"]
    assert (adam["may"], adam["reason"], adam["needs"]) == (
        False,
        "role_insufficient",
        {"roles": ["owner"]},
    )
    assert olivia["now"] == {"allow": True, "http_status": 200, "reason": "granted", "upgrade": []}
    assert olivia["given_by"] == {"kind": "sql", "name": "sidecar load"}
    assert olivia["workspace_id"] == company.id_of("acme")
    assert company.rows(f"SELECT kind FROM authz.outbox WHERE id = {olivia['event']}") == [("member.joined",)]


def test_in_words_a_right_without_room_is_one(audit):
    _, out, _ = audit("who-can", "members.invite", "--workspace", "solo")

    lines = out.splitlines()
    assert lines[0] == "members.invite in solo (Solo, starter, active) now"
    assert lines[-2].endswith("yes, but no room now (402 → team)")
    assert lines[-1] == "1 of 1 members: all"


def test_in_words_those_who_may_not_are_named_with_the_reason(audit):
    _, out, _ = audit("who-can", *ACME)

    last = "1 of 3 members; adam (admin) and mia (member) may not: role_insufficient, needs owner"
    assert out.splitlines()[-1] == last


@pytest.mark.parametrize(
    "action", ["members.invite", "recording.start", "analytics.view", "workspace.delete"]
)
def test_now_is_what_the_authorizer_lists(audit, company, action):
    company.do(
        "SELECT authz.set_overrides('solo', '{\"analytics\": true}', '{\"members\": 5}', NULL, NULL)",
        "UPDATE authz.workspaces SET status = 'suspended' WHERE slug = 'piano'",
        "INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used)"
        " SELECT id, 'minutes', date_trunc('month', now(), 'UTC'), 100 FROM authz.workspaces"
        " WHERE slug = 'zoe'",
    )
    compiled = compiled_at(company.folder / "plans.yaml", company.folder / "policies")
    store = PostgresFacts(company.url, catalog=compiled.catalog, pool_size=1)
    store.open()
    authorizer = Authorizer(
        catalog=compiled.catalog, context_fields=frozenset(), policy=embedded_engine(compiled), facts=store
    )
    wanted = [
        (slug, user)
        for slug in ("acme", "piano", "solo", "zoe")
        for user in authorizer.members_who_may(
            a_question(action, workspace=slug), after=None, limit=100, deadline=FAR_AWAY
        ).users
    ]
    store.close()

    _, report = asked(audit, action, "--everywhere")

    assert [(row["workspace"], row["user"]) for row in report["rows"] if row["now"]["allow"]] == wanted
    assert report["made"]["population"]["members"] == len(report["rows"]) == 6


def test_amounts_count(audit):
    few = asked(audit, "recording.start", "--workspace", "solo", "--amounts", "minutes=100")[1]
    many = asked(audit, "recording.start", "--workspace", "solo", "--amounts", "minutes=101")[1]

    assert [report["rows"][0]["now"]["allow"] for report in (few, many)] == [True, False]
    assert many["rows"][0]["may"]


def test_whoever_was_put_there_past_the_history_is_listed_as_not_in_it(audit, company):
    company.unseen(
        "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'",
        f"INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
        f" VALUES ('{company.id_of('solo')}', 'nobody', 'admin')",
    )

    _, report = asked(audit, "members.remove", "--everywhere")

    rows = {(row["workspace"], row["user"]): row for row in report["rows"]}
    mia, nobody = rows["acme", "mia"], rows["solo", "nobody"]
    assert (mia["may"], mia["since"], mia["given_by"], mia["event"]) == (True, None, None, None)
    assert (nobody["may"], nobody["reason"], nobody["given_by"]) == (True, "granted", None)


def test_then_is_the_fold_of_forged_months(audit, company):
    forge(
        company,
        ("workspace.created", "2026-02-01Z", '{"slug": "acme", "name": "A", "plan": "team"}', "ann"),
        ("member.joined", "2026-02-01Z", '{"user": "ann", "role": "owner"}', "ann"),
        ("member.joined", "2026-03-01Z", '{"user": "ben", "role": "admin", "granted_by": "ann"}', "ben"),
        ("member.role_changed", "2026-04-01Z", '{"user": "ben", "from": "admin", "to": "owner"}', "ann"),
        ("member.role_changed", "2026-04-01Z", '{"user": "ann", "from": "owner", "to": "admin"}', "ann"),
        ("workspace.status_changed", "2026-05-01Z", '{"from": "active", "to": "suspended"}', "ann"),
        ("member.left", "2026-06-01Z", '{"user": "ann"}', "ann"),
    )
    at = ("2026-02-15", "2026-03-15", "2026-04-15", "2026-05-15", "2026-06-15")

    reports = [asked(audit, *ACME, "--at", day)[1] for day in at]

    assert [who(report) for report in reports] == [
        [("acme", "ann")],
        [("acme", "ann")],
        [("acme", "ben")],
        [],
        [],
    ]
    ann, ben = reports[1]["rows"]
    assert ben["given_by"] == {"kind": "user", "name": "ann"}
    assert ben["since"] == "2026-03-01T00:00:00Z"
    assert reports[1]["quotas_looked_at"] is False
    assert ann["now"] is None
    assert reports[1]["made"]["as_of"] == "2026-03-15T00:00:00Z"
    assert {row["reason"] for row in reports[3]["rows"]} == {"workspace_suspended"}
    assert [row["user"] for row in reports[4]["rows"]] == ["ben"]


def test_then_the_policy_of_then_rules(audit, company):
    before = moment(company)
    company.edit("plans.yaml", "workspace.delete: {role: owner}", "workspace.delete: {role: admin}")
    company.publish()

    then, now = asked(audit, *ACME, "--at", before)[1], asked(audit, *ACME)[1]

    assert who(then) == [("acme", "olivia")]
    assert who(now) == [("acme", "adam"), ("acme", "olivia")]
    # Both were published within ten minutes: workers may have answered by either.
    assert [each["differs"] for each in then["also"]] == [["adam"]]
    assert then["also"][0]["revision"] == now["made"]["revision"] != then["made"]["revision"]


def test_a_control_fails_once_somebody_else_may(audit, company):
    company.edit("plans.yaml", "members.remove: {role: admin}", "members.remove: {role: owner}")
    company.publish()
    control = ("members.remove", "--everywhere", "--only", "owner")
    assert asked(audit, *control)[0] == 0
    company.edit("plans.yaml", "members.remove: {role: owner}", "members.remove: {role: admin}")
    company.publish()

    code, report = asked(audit, *control)

    assert code == 1
    assert [row["user"] for row in report["others"]] == ["adam"]
    assert asked(audit, "members.remove", "--everywhere", "--only", "owner,adam")[0] == 0


def test_a_limit_lists_fewer_and_counts_all(audit):
    _, report = asked(audit, "platform.use", "--everywhere", "--limit", "2")

    assert len(report["rows"]) == 2
    assert report["made"]["population"]["members"] == 6


def test_a_policy_that_is_named_rules_instead_of_the_published_one(audit, company):
    company.edit("plans.yaml", "workspace.delete: {role: owner}", "workspace.delete: {role: member}")

    assert len(who(asked(audit, *ACME)[1])) == 1
    assert len(who(asked(audit, *ACME, "--plans", "plans.yaml")[1])) == 3
    assert "./plans.yaml differs from the published one, which rules\n" in audit("who-can", *ACME)[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("workspace.delte", "--workspace", "acme"), 'did you mean "workspace.delete"?'),
        (("workspace.delete", "--workspace", "acmee"), 'there is no "acmee"; did you mean "acme"?'),
        (("workspace.delete",), "name a workspace by --workspace, or say --everywhere"),
        ((*ACME, "--everywhere"), "name a workspace by --workspace, or say --everywhere"),
        (
            (*ACME, "--at", "2026-10-01T00:00:00"),
            "has no zone: write 2026-10-01T00:00:00Z for UTC; the first moment",
        ),
        ((*ACME, "--at", "2001-01-01"), "is before the history begins, which is 20"),
        ((*ACME, "--at", "2999-01-01"), "is in the future; the first moment that is known is 2"),
        ((*ACME, "--only", "onwer"), 'did you mean "owner"?'),
        ((*ACME, "--amounts", "minutes=1"), "does not take"),
        ((*ACME, "--amounts", "minutes"), "expected METER=N"),
        ((*ACME, "--context", "mfa=true"), 'no policy declares the field "mfa"'),
    ],
)
def test_bad_input_is_told_with_exit_code_2(audit, arguments, says):
    code, out, err = audit("who-can", *arguments)

    assert (code, out) == (2, "")
    assert says in err


def test_a_workspace_that_is_gone_is_told_with_its_dates(audit, company):
    before, id_ = moment(company), company.id_of("solo")
    company.do(
        f"SELECT authz.delete_workspace('{id_}', facts_version) FROM authz.workspaces WHERE id = '{id_}'"
    )

    code, _, err = audit("who-can", "platform.use", "--workspace", "solo", "--at", moment(company))

    assert code == 2
    assert f"{id_}: called so since 20" in err
    assert ", deleted 20" in err
    assert who(asked(audit, "platform.use", "--workspace", "solo", "--at", before)[1]) == [("solo", "sam")]


def test_without_a_database_nothing_is_said(audit, company):
    company.auditor = "postgresql://nobody@127.0.0.1:1/none"

    assert audit("who-can", *ACME)[:2] == (69, "")


def test_a_database_that_keeps_no_policy_is_told(audit, company):
    company.unseen("DELETE FROM authz.policy_history")

    code, out, err = audit("who-can", *ACME)

    assert (code, out) == (78, "")
    assert "no policy is kept that was published" in err
