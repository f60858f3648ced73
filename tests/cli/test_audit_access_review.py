"""`sidecar audit access-review`: nobody who holds a right is left out, and what is odd is flagged."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest

from sidecar.audit.review import COLUMNS
from tests.cli.a_company import audit, company

__all__ = ["audit", "company"]

LATELY = (datetime.now(UTC) - timedelta(days=8)).strftime("%Y-%m-%dT%H:%M:%SZ")
LINE = {"v": 1, "kind": "decision", "caller": "dev", "action": "platform.use"}


def asked(audit, *arguments):
    code, out, err = audit("access-review", *arguments, "--json")
    assert code in {0, 1}, err
    return json.loads(out)


def row(report, kind, user):
    (found,) = [each for each in report["rows"] if (each["kind"], each["user"]) == (kind, user)]
    return found


def of_kind(report, kind):
    return [each for each in report["rows"] if each["kind"] == kind]


def invited(company, slug="acme", role="admin"):
    company.do(
        "INSERT INTO authz.workspace_invitations"
        " (id, workspace_id, email, role, invited_by, token_hash, created_at, expires_at)"
        f" VALUES (gen_random_uuid(), '{company.id_of(slug)}', 'new@example.com', '{role}', 'olivia',"
        " sha256('t'), now(), now() + interval '1 day')"
    )


def test_every_member_is_a_row_with_rights_as_sold(audit, company):
    report = asked(audit)

    assert [(each["workspace"], each["user"]) for each in of_kind(report, "member")] == [
        ("acme", "adam"),
        ("acme", "mia"),
        ("acme", "olivia"),
        ("piano", "pia"),
        ("solo", "sam"),
        ("zoe", "zoe"),
    ]
    assert tuple(report["rows"][0]) == COLUMNS
    mia, sam = row(report, "member", "mia"), row(report, "member", "sam")
    assert "analytics.view" in mia["rights"]
    assert "members.invite" not in mia["rights"]
    # A right without room now is one, with a star.
    assert "members.invite*" in sam["rights"]
    assert "recording.start" in sam["rights"]
    assert (mia["email"], mia["granted_kind"], mia["granted_by"]) == (
        "mia@example.com",
        "sql",
        "sidecar load",
    )
    assert all(each["flags"] == [] for each in of_kind(report, "member"))
    assert report["unaccounted"] == 0


def test_invitations_overrides_callers_and_logins_are_rows(audit, company):
    invited(company)
    company.do(
        "SELECT authz.acting_as('dev', 'caller') FROM authz.set_overrides('solo',"
        " '{\"video_avatar\": true}', '{\"minutes\": 5000}', NULL, NULL)"
    )
    (company.folder / "tokens").write_text(
        f"dev admin,audit,authorize sha256:{'1' * 64} # made 2026-11-01T00:00:00Z by otto\n"
        f"shop authorize sha256:{'2' * 64}\nshop audit sha256:{'3' * 64}\n"
    )

    report = asked(audit, "--tokens", "tokens")

    (invitation,) = of_kind(report, "invitation")
    assert invitation["email"] == "new@example.com"
    assert (invitation["role"], invitation["granted_by"]) == ("admin", "olivia")
    feature, limit = of_kind(report, "override")
    assert (feature["rights"], feature["flags"]) == (["video_avatar on"], ["no_end", "no_reason"])
    assert limit["rights"] == ["minutes 5000"]
    assert row(report, "caller", "dev")["role"] == "admin audit authorize"
    assert row(report, "caller", "dev")["flags"] == ["all_scopes"]
    dev, *shop = of_kind(report, "caller")
    made = (dev["since"], dev["granted_kind"], dev["granted_by"])
    assert made == ("2026-11-01T00:00:00Z", "login", "otto")
    assert [(each["role"], each["flags"], each["since"]) for each in shop] == [
        ("authorize", [], None),
        ("audit", [], None),
    ]
    assert row(report, "login", "postgres")["flags"] == ["superuser"]
    assert "1" * 64 not in json.dumps(report)
    assert [each["id"] for each in report["rows"]] == list(range(1, len(report["rows"]) + 1))


def test_every_login_that_can_write_is_listed_whichever_way(audit, company):
    company.do(
        "CREATE ROLE authz_test_clerks",
        "GRANT UPDATE ON authz.workspaces TO authz_test_clerks",
        "CREATE ROLE authz_test_clerk LOGIN NOINHERIT IN ROLE authz_test_clerks",
        "CREATE ROLE authz_test_server LOGIN IN ROLE authz_sidecar",
        "CREATE ROLE authz_test_by_function LOGIN",
        "GRANT EXECUTE ON FUNCTION authz.set_plan TO authz_test_by_function",
        "CREATE ROLE authz_test_reader LOGIN",
        "GRANT SELECT ON authz.workspaces TO authz_test_reader",
        "CREATE ROLE authz_test_app_login LOGIN IN ROLE authz_app",
    )
    try:
        logins = {each["user"]: each["role"] for each in of_kind(asked(audit), "login")}
    finally:
        company.do(
            "DROP OWNED BY authz_test_clerks, authz_test_clerk, authz_test_server, authz_test_by_function,"
            " authz_test_reader, authz_test_app_login",
            "DROP ROLE authz_test_clerks, authz_test_clerk, authz_test_server, authz_test_by_function,"
            " authz_test_reader, authz_test_app_login",
        )

    assert logins["authz_test_clerk"] == "authz_test_clerks"
    assert logins["authz_test_server"] == "authz_sidecar authz_test_server"
    assert logins["authz_test_by_function"] == "authz_test_by_function"
    assert "postgres" in logins
    assert not {"authz_test_reader", "authz_test_app_login", "authz_test_auditor"} & logins.keys()


def test_what_is_odd_about_members_is_flagged(audit, company):
    acme, solo = company.id_of("acme"), company.id_of("solo")
    company.do("UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'", by="mia")
    company.do(
        f"INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
        f" VALUES ('{acme}', 'ghost', 'member')"
    )
    company.unseen(
        f"INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
        f" VALUES ('{acme}', 'eve', 'archivist')",
        f"DELETE FROM authz.workspace_memberships WHERE workspace_id = '{company.id_of('piano')}'",
        f"UPDATE authz.workspace_memberships SET role = 'admin' WHERE workspace_id = '{solo}'",
    )

    report = asked(audit)

    assert row(report, "member", "mia")["flags"] == ["self_granted"]
    assert row(report, "member", "ghost")["flags"] == ["unknown_user"]
    assert row(report, "member", "eve")["flags"] == ["unaccounted", "unknown_user", "undeclared_role"]
    assert row(report, "member", "sam")["flags"] == ["unaccounted", "no_owner"]
    assert row(report, "member", "olivia")["flags"] == []
    assert report["unaccounted"] == 3
    company.do("SELECT authz.find_unrecorded()")
    assert row(asked(audit), "member", "sam")["flags"] == ["found", "no_owner"]


def test_whoever_made_a_workspace_has_not_granted_themselves_anything(audit, company):
    company.do(
        "SELECT authz.acting_as('una', 'user'), authz.see_user('una', 'una@example.com', true)",
    )

    una = row(asked(audit), "member", "una")

    assert (una["granted_kind"], una["granted_by"], una["flags"]) == ("user", "una", [])


def test_whoever_steps_down_has_not_granted_themselves_anything(audit, company):
    company.do(
        "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'olivia';"
        "UPDATE authz.workspace_memberships SET role = 'owner' WHERE user_id = 'adam'",
        by="olivia",
    )
    company.do("UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'", by="mia")

    report = asked(audit)

    flags = {user: row(report, "member", user)["flags"] for user in ("adam", "olivia", "mia")}
    assert flags == {"adam": [], "olivia": [], "mia": ["self_granted"]}


def test_the_log_tells_who_was_seen_last_and_who_was_not(audit, company):
    company.unseen("UPDATE authz.outbox SET at = at - interval '100 days'")
    acme = company.id_of("acme")
    lines = [
        LINE
        | {"at": "2026-01-01T00:00:00.000000Z", "user": "adam", "workspace": "acme", "workspace_id": acme},
        LINE | {"at": LATELY, "user": "adam", "workspace": acme, "workspace_id": acme},
        LINE | {"at": "2001-01-01T00:00:00.000000Z", "user": "mia", "workspace": "acme"},
        LINE | {"at": LATELY, "user": "olivia", "workspace": "piano"},
    ]
    log = company.folder / "log.jsonl"
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + "no line\n")

    report = asked(audit, "--log", str(log))

    assert row(report, "member", "mia")["flags"] == row(report, "member", "olivia")["flags"] == ["dormant"]
    assert row(report, "member", "mia")["last_used"] == "2001-01-01T00:00:00.000000Z"
    assert row(report, "member", "adam")["last_used"] == LATELY
    assert "1 lines could not be read" in report["notes"]


def test_whoever_came_a_short_while_ago_is_not_dormant(audit, company):
    log = company.folder / "log.jsonl"
    log.write_text(json.dumps(LINE | {"at": LATELY, "user": "adam", "workspace": "acme"}) + "\n")

    report = asked(audit, "--log", str(log))

    assert row(report, "member", "mia")["flags"] == []


def test_separated_duties_that_somebody_holds_together_are_flagged(audit, company):
    with (company.folder / "plans.yaml").open("a") as plans:
        plans.write(
            "  - {title: nobody invites and removes, separate:"
            " {actions: [members.invite, members.remove], except: owner}}\n"
        )
    company.publish()

    report = asked(audit)

    assert row(report, "member", "adam")["flags"] == ["separate:nobody invites and removes"]
    assert row(report, "member", "olivia")["flags"] == []
    assert audit("access-review", "--fail-on", "separate")[0] == 1


def test_then_the_members_of_then_are_listed(audit, company):
    ((before,),) = company.rows("SELECT to_json(clock_timestamp() AT TIME ZONE 'UTC') #>> '{}'")
    company.do("DELETE FROM authz.workspace_memberships WHERE user_id = 'mia'", by="olivia")

    then, now = asked(audit, "--at", f"{before}Z"), asked(audit)

    assert row(then, "member", "mia")["role"] == "member"
    assert not [each for each in now["rows"] if each["user"] == "mia"]
    assert {each["kind"] for each in then["rows"]} == {"member"}


def test_csv_is_harmless_and_says_how_it_was_made(audit, company):
    company.do(
        f"INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
        f" VALUES ('{company.id_of('acme')}', '=HYPERLINK(\"http://x\")', 'member')"
    )

    code, out, _ = audit("access-review", "--format", "csv", "-o", "review.csv")

    assert (code, out) == (0, "")
    path = company.folder / "review.csv"
    content = path.read_bytes()
    rows = list(csv.DictReader(io.StringIO(content.decode(), newline="")))
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["user"] == '\'=HYPERLINK("http://x")'
    assert rows[0]["rights"].startswith("platform.use data.view_own ")
    meta = json.loads((company.folder / "review.csv.meta.json").read_text())
    assert meta["sha256"] == hashlib.sha256(content).hexdigest()
    assert (meta["rows"]["member"], meta["unaccounted"]) == (7, 0)
    assert meta["made"]["population"]["workspaces"] == 4
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_html_has_lines_to_sign_and_no_script(audit, company):
    company.do(
        f"INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)"
        f" VALUES ('{company.id_of('acme')}', '<script>alert(1)</script>', 'member')"
    )

    code, out, _ = audit("access-review", "--format", "html")

    assert code == 0
    assert "<script>" not in out
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in out
    assert "Reviewer: ____" in out
    assert "default-src 'none'" in out


def test_roles_and_workspace_narrow_it(audit):
    admins = asked(audit, "--roles", "admin")
    solo = asked(audit, "--workspace", "solo")

    assert [each["user"] for each in of_kind(admins, "member")] == ["adam"]
    assert [each["user"] for each in of_kind(solo, "member")] == ["sam"]


@pytest.mark.parametrize(("flag", "code"), [("superuser", 1), ("self_granted", 0)])
def test_a_flag_can_fail_the_command(audit, flag, code):
    assert audit("access-review", "--fail-on", flag)[0] == code


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fail-on", "superusr"), 'did you mean "superuser"?'),
        (("--roles", "admn"), 'did you mean "admin"?'),
        (("--workspace", "pian"), 'did you mean "piano"?'),
        (("--log", "."), "nothing would be looked at"),
    ],
)
def test_bad_input_is_told_with_exit_code_2(audit, arguments, says):
    code, out, err = audit("access-review", *arguments)

    assert (code, out) == (2, "")
    assert says in err
