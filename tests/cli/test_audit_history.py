"""`sidecar audit history` and `policy`, and what `sidecar migrate` keeps, as somebody types them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import shutil
import stat
import sys

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from sidecar.audit.events import KINDS
from sidecar.cli import main
from sidecar.settings import shipped
from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres


@pytest.fixture
def url(fresh_database_url):
    """Of a login that may audit; the tests change things as the owner."""
    run(
        fresh_database_url,
        "DROP ROLE IF EXISTS auditor",
        "CREATE ROLE auditor LOGIN IN ROLE authz_audit",
        "UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'mia'",
    )
    yield make_conninfo(fresh_database_url, user="auditor")
    run(fresh_database_url, "DROP OWNED BY auditor", "DROP ROLE auditor")


@pytest.fixture
def sidecar(url, tmp_path, monkeypatch, capfd):
    def run_it(*arguments, of=url):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["sidecar", *arguments])
        monkeypatch.setenv("SIDECAR_AUDIT_URL", of)
        with pytest.raises(SystemExit) as left:
            main()
        printed = capfd.readouterr()
        return left.value.code or 0, printed.out, printed.err

    return run_it


@pytest.fixture
def project(tmp_path):
    shutil.copy(shipped("plans.yaml"), tmp_path)
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    return tmp_path


def test_who_became_admin_and_by_whom(sidecar):
    code, output, _ = sidecar(
        "audit", "history", "--kind", "member.joined,member.role_changed", "--workspace", "acme", "--json"
    )

    document = json.loads(output)
    assert code == 0
    assert (document["made"]["login"], document["made"]["population"]) == ("auditor", {"changes": 4})
    assert sorted(row["user"] for row in document["rows"]) == ["adam", "mia", "mia", "olivia"]
    last = document["rows"][-1]
    assert (last["workspace"], last["kind"], last["data"]) == (
        "acme",
        "member.role_changed",
        {"user": "mia", "from": "member", "to": "admin"},
    )
    assert list(last) == [
        "id",
        "at",
        "workspace_id",
        "workspace",
        "kind",
        "user",
        "data",
        "actor",
        "actor_kind",
        "granted_by",
        "decision_id",
    ]
    assert (last["actor"], last["actor_kind"], last["granted_by"]) == ("postgres", "sql", None)
    assert last["at"].endswith("Z")


def test_text_and_csv_say_the_same_and_a_file_has_its_meta(sidecar, tmp_path):
    _, text, _ = sidecar("audit", "history", "--user", "mia", "--limit", "1")
    assert "member.joined" in text
    assert "role_changed" not in text

    code, _, _ = sidecar("audit", "history", "--user", "mia", "--format", "csv", "-o", "out.csv")
    content = (tmp_path / "out.csv").read_bytes()
    meta = json.loads((tmp_path / "out.csv.meta.json").read_text())
    table = list(csv.DictReader(io.StringIO(content.decode(), newline="")))

    assert code == 0
    assert [row["kind"] for row in table] == ["member.joined", "member.role_changed"]
    assert (meta["rows"], meta["sha256"]) == (2, hashlib.sha256(content).hexdigest())
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600


def test_what_is_not_known_is_a_usage_error(sidecar, url, fresh_database_url):
    assert 'did you mean "member.joined"?' in sidecar("audit", "history", "--kind", "member.joind")[2]
    assert 'knows no "acmee"; did you mean "acme"?' in sidecar("audit", "history", "--workspace", "acmee")[2]
    nobody = "00000000-0000-4000-8000-000000000000"
    assert sidecar("audit", "history", "--workspace", nobody)[:2] == (2, "")
    assert sidecar("audit", "history", "--since", "2020-01-02", "--until", "2020-01-01")[0] == 2
    run(
        fresh_database_url,
        "UPDATE authz.workspaces SET slug = 'former' WHERE slug = 'acme'",
        "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('acme', 'A', 'pro')",
    )

    code, output, errors = sidecar("audit", "history", "--workspace", "acme")

    assert (code, output) == (2, "")
    ids = {
        str(id_)
        for (id_,) in rows(
            fresh_database_url, "SELECT id FROM authz.workspaces WHERE slug IN ('acme', 'former')"
        )
    }
    assert len(ids) == 2
    assert all(id_ in errors for id_ in ids)
    assert sidecar("audit", "history", "--workspace", min(ids))[0] == 0


def test_a_login_that_may_not_audit_and_a_server_that_is_not_there(sidecar, fresh_database_url):
    run(fresh_database_url, "REVOKE authz_audit FROM auditor")
    code, output, errors = sidecar("audit", "history")
    assert (code, output) == (78, "")
    assert "GRANT authz_audit" in errors

    code, output, _ = sidecar("audit", "history", of="postgresql://nobody@127.0.0.1:1/nothing")
    assert (code, output) == (69, "")


def test_a_database_of_a_newer_version_is_refused_and_both_are_named(sidecar, fresh_database_url):
    run(
        fresh_database_url,
        "INSERT INTO authz.migrations (number, name, checksum) VALUES (9999, '9999_do_more', '')",
    )

    code, output, errors = sidecar("audit", "history")

    assert (code, output) == (78, "")
    assert "the database is at 9999_do_more, and this sidecar ends at 0" in errors


def test_a_database_without_what_audits_need_is_told_to_be_migrated(sidecar, fresh_database_url):
    run(fresh_database_url, "DROP FUNCTION authz.migrated_to")

    code, output, errors = sidecar("audit", "history")

    assert (code, output) == (78, "")
    assert "run sidecar migrate" in errors


def test_every_kind_that_is_recorded_can_be_asked_for(fresh_database_url):
    [(definition,)] = rows(fresh_database_url, "SELECT pg_get_functiondef('authz.not_understood'::regproc)")

    assert set(re.findall(r"'([a-z]+\.[a-z_]+)'", definition)) == set(KINDS)
    [(comment,)] = rows(
        fresh_database_url,
        "SELECT col_description('authz.outbox'::regclass, attnum) FROM pg_attribute"
        " WHERE attrelid = 'authz.outbox'::regclass AND attname = 'kind'",
    )
    assert all(f".{kind.split('.')[1]}" in comment for kind in KINDS)


def test_what_was_published_is_kept_and_given_back(sidecar, project, fresh_database_url):
    owner = ("--database-url", fresh_database_url)
    assert sidecar("audit", "policy")[0] == 78  # nothing is kept yet
    assert sidecar("migrate", *owner)[0] == 0
    assert sidecar("migrate", *owner)[0] == 0  # the same again is no publication
    plans = (project / "plans.yaml").read_text()
    (project / "plans.yaml").write_text(f"# for lawyers\n{plans}")
    assert sidecar("migrate", *owner)[0] == 0

    [first, second] = rows(fresh_database_url, "SELECT revision, catalog FROM authz.publications()")
    assert (first[0], first[1] == second[1]) == (second[0], False)
    code, output, _ = sidecar("audit", "policy", "--json", "-o", "was")
    document = json.loads(output)
    digest = hashlib.sha256((project / "plans.yaml").read_bytes()).hexdigest()
    assert (code, document["revision"], document["catalog"]) == (0, second[0], digest[:16])
    assert document["published"]["login"] == "postgres"
    assert (project / "was/plans.yaml").read_text() == f"# for lawyers\n{plans}"
    for path in (project / "policies/authz").glob("*.rego"):
        if not path.stem.endswith("_test"):
            assert (project / "was/policies/authz" / path.name).read_bytes() == path.read_bytes()
    assert sidecar("compile", "-o", "now.tar.gz")[0] == 0
    assert (project / f"was/{second[0]}.tar.gz").read_bytes() == (project / "now.tar.gz").read_bytes()
    assert sidecar("audit", "policy", "-o", "was")[0] == 2  # it is not overwritten


def test_what_ruled_then_is_what_had_been_published_then(sidecar, project, fresh_database_url):
    owner = ("--database-url", fresh_database_url)
    sidecar("migrate", *owner)
    plans = (project / "plans.yaml").read_text()
    (project / "plans.yaml").write_text(plans.replace("price: 149", "price: 159"))
    sidecar("migrate", *owner)
    [(old, at), (new, later)] = rows(fresh_database_url, "SELECT revision, at FROM authz.publications()")
    assert old != new

    assert json.loads(sidecar("audit", "policy", "--at", at.isoformat(), "--json")[1])["revision"] == old
    assert json.loads(sidecar("audit", "policy", "--at", later.isoformat(), "--json")[1])["revision"] == new
    assert json.loads(sidecar("audit", "policy", "--revision", old, "--json")[1])["revision"] == old
    code, _, errors = sidecar("audit", "policy", "--at", "2020-01-01")
    assert (code, at.isoformat()[:16] in errors) == (2, True)
    assert sidecar("audit", "policy", "--revision", "0" * 32)[0] == 78


def test_history_that_is_old_is_deleted_when_one_says_so(sidecar, fresh_database_url):
    owner = ("--database-url", fresh_database_url)
    with psycopg.connect(fresh_database_url, autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE authz.outbox SET at = at - interval '2 years' WHERE kind LIKE 'member.%'")
    before = rows(fresh_database_url, "SELECT user_id, role FROM authz.members_at()")

    assert json.loads(sidecar("tidy", *owner, "--json")[1])["pruned"] is None
    assert json.loads(sidecar("tidy", *owner, "--keep-months", "25", "--json")[1])["pruned"] == 0
    assert json.loads(sidecar("tidy", *owner, "--keep-months", "6", "--json")[1])["pruned"] == 7

    assert rows(fresh_database_url, "SELECT user_id, role FROM authz.members_at()") == before
    assert rows(fresh_database_url, "SELECT * FROM authz.unaccounted()") == []
    assert rows(fresh_database_url, "SELECT DISTINCT granted_kind FROM authz.members_at()") == [("found",)]
