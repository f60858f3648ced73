"""`sidecar doctor`, against real servers that are well, or not."""

from __future__ import annotations

import json
import re
import socket
import sys
from time import monotonic
from urllib.parse import urlsplit

import pytest

from sidecar.cli import main
from sidecar.identity.callers import append_line, new_token, token_line
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.bundle import bundle, served_bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.condition import called_functions
from sidecar.store.migrate import migrate
from tests.identity.provider import AUDIENCE, ISSUER, a_jwk, a_set
from tests.postgres_server import run
from tests.servers import free_port, opa_server

pytestmark = [pytest.mark.postgres, pytest.mark.opa]

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))


@pytest.fixture(scope="module")
def opa():
    with opa_server(bundle(COMPILED)) as url:
        yield url


@pytest.fixture(scope="module")
def login_url(database_url):
    """Of a login that has the role authz_sidecar and nothing else."""
    migrate(database_url, catalog=COMPILED.catalog, revision=COMPILED.revision)
    run(
        database_url,
        "DROP ROLE IF EXISTS doctors_sidecar",
        "CREATE ROLE doctors_sidecar LOGIN PASSWORD 'secret-word' IN ROLE authz_sidecar",
    )
    parts = urlsplit(database_url)
    user, _, host = parts.netloc.rpartition("@")
    yield parts._replace(netloc=f"doctors_sidecar:secret-word@{host}").geturl() if user else ""
    run(database_url, "DROP ROLE doctors_sidecar")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path, login_url, opa):
    tokens = tmp_path / "tokens"
    append_line(tokens, token_line("backend", ["authorize"], new_token()))
    (tmp_path / "jwks.json").write_bytes(a_set(a_jwk()))
    for name, value in {
        "DATABASE_URL": login_url,
        "OPA_URL": opa,
        "PLANS": shipped("plans.yaml"),
        "TOKENS": tokens,
        "BIND": f"127.0.0.1:{free_port()}",
        "JWT_KEYS": tmp_path / "jwks.json",
        "JWT_ISSUER": ISSUER,
        "JWT_AUDIENCE": AUDIENCE,
        "LOG_DIR": tmp_path,
    }.items():
        monkeypatch.setenv(f"SIDECAR_{name}", str(value))


@pytest.fixture
def examined(monkeypatch, capsys):
    """(exit code, standard output) of the command."""

    def examine(*words):
        monkeypatch.setattr(sys, "argv", ["sidecar", "doctor", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert said.err == ""
        assert "secret-word" not in said.out
        return ended.value.code, said.out

    return examine


@pytest.fixture
def doctor(examined):
    """(exit code, {name: (state, text)}) of the command; of several with one name the worst."""

    def run_it():
        code, text = examined()
        found: dict[str, tuple[str, str]] = {}
        for state, name, says in re.findall(r"^(\w+) +([a-z ]+): (.*)$", text, re.MULTILINE):
            if found.get(name, ("ok",))[0] == "ok":
                found[name] = state, says
        assert code == (1 if any(state == "finding" for state, _ in found.values()) else 0)
        return code, found

    return run_it


def findings(found):
    return {name: says for name, (state, says) in found.items() if state == "finding"}


def test_where_all_is_well_every_line_says_so(doctor):
    code, found = doctor()

    assert (code, findings(found)) == (0, {})
    assert {name for name, (state, _) in found.items() if state in {"ok", "warning"}} >= {
        "settings", "files", "database", "database version", "database primary", "database role",
        "database timeouts", "database clock", "database schema", "database grants", "database drift",
        "database catalog", "opa", "opa bundle", "opa revision", "tokens", "jwks", "port", "disk",
    }  # fmt: skip
    assert found["database role"] == ("ok", "authz_sidecar")
    assert found["database timeouts"][1] == "statement_timeout 1000 ms, lock_timeout 75 ms, read committed"


def test_as_json_it_says_the_same(examined):
    code, text = examined("--json")
    document = json.loads(text)

    assert (code, document["findings"]) == (0, 0)
    assert {"name": "database role", "state": "ok", "says": "authz_sidecar", "do": None} in document["checks"]


def test_every_wrong_setting_is_a_finding_and_nothing_else_is_asked(examined, monkeypatch):
    monkeypatch.setenv("SIDECAR_WORKERS", "none")
    monkeypatch.setenv("SIDECAR_OPA_ULR", "http://x")

    code, text = examined()

    assert code == 1
    assert sum(line.startswith("finding  settings: SIDECAR_") for line in text.splitlines()) == 2
    assert "skipped  database: " in text


def test_files_that_are_wrong_are_told_and_the_rest_is_looked_at(doctor, monkeypatch, tmp_path):
    (tmp_path / "plans.yaml").write_text("plans: 7\n")
    monkeypatch.setenv("SIDECAR_PLANS", str(tmp_path / "plans.yaml"))

    _, found = doctor()

    assert set(findings(found)) == {"files"}
    assert found["database catalog"][0] == found["engine"][0] == "skipped"


def test_another_catalog_than_the_published_one_is_told_with_the_command(doctor, monkeypatch, tmp_path):
    text = shipped("plans.yaml").read_text()
    (tmp_path / "plans.yaml").write_text(re.sub(r"minutes: \d+", "minutes: 7", text, count=1))
    monkeypatch.setenv("SIDECAR_PLANS", str(tmp_path / "plans.yaml"))

    found = findings(doctor()[1])

    assert set(found) == {"database catalog", "opa revision"}
    assert "run `sidecar migrate`" in found["database catalog"]


def test_a_schema_that_is_not_there_is_told(doctor, monkeypatch, login_url, empty_database_url):
    there = urlsplit(login_url)._replace(path=urlsplit(empty_database_url).path).geturl()
    monkeypatch.setenv("SIDECAR_DATABASE_URL", there)

    found = findings(doctor()[1])

    assert set(found) == {"database schema"}
    assert "sidecar migrate" in found["database schema"]


@pytest.mark.parametrize(
    ("change", "back", "name", "says"),
    [
        (
            "REVOKE EXECUTE ON FUNCTION authz.refund FROM authz_sidecar",
            "GRANT EXECUTE ON FUNCTION authz.refund TO authz_sidecar",
            "database grants",
            "may not execute refund",
        ),
        (
            "REVOKE authz_sidecar FROM doctors_sidecar",
            "GRANT authz_sidecar TO doctors_sidecar",
            "database",
            "authz_sidecar",
        ),
        (
            "ALTER ROLE doctors_sidecar SET default_transaction_read_only = on",
            "ALTER ROLE doctors_sidecar RESET default_transaction_read_only",
            "database primary",
            "read-only",
        ),
        (
            "ALTER FUNCTION authz.refund RENAME TO refund_of_before",
            "ALTER FUNCTION authz.refund_of_before RENAME TO refund",
            "database schema",
            "lacks refund",
        ),
    ],
)
def test_what_is_wrong_in_the_database_is_told(doctor, database_url, change, back, name, says):
    run(database_url, change)
    try:
        found = findings(doctor()[1])
    finally:
        run(database_url, back)

    assert says in found[name]


@pytest.mark.parametrize(
    ("change", "back", "state", "says"),
    [
        (
            "CREATE PUBLICATION realtime FOR TABLE public.notes",
            "DROP PUBLICATION realtime",
            "finding",
            "public.notes is in the publication realtime",
        ),
        (
            "CREATE UNIQUE INDEX apart ON public.notes (a)",
            "DROP INDEX public.apart",
            "warning",
            "public.apart is unique across workspaces",
        ),
    ],
    ids=["publication", "key"],
)
def test_what_opens_an_isolated_table_since_is_told_with_the_statement(
    doctor, database_url, change, back, state, says
):
    run(database_url, "CREATE TABLE public.notes (a integer)", "SELECT authz.isolate('public.notes')")
    try:
        assert doctor()[1]["database isolation"][0] == "ok"
        run(database_url, change)
        code, found = doctor()
    finally:
        run(database_url, "DROP TABLE public.notes", *([back] if "PUBLICATION" in back else []))

    assert found["database isolation"][0] == state
    assert says in found["database isolation"][1]
    assert code == (1 if state == "finding" else 0)


def test_each_difference_of_the_schema_is_told_with_what_to_do(examined, database_url):
    run(database_url, "DROP INDEX authz.usage_ledger_at_idx", "GRANT SELECT ON authz.users TO PUBLIC")
    try:
        lines = [line for line in examined()[1].splitlines() if "database drift" in line]
    finally:
        run(
            database_url,
            "REVOKE SELECT ON authz.users FROM PUBLIC",
            "CREATE INDEX usage_ledger_at_idx ON authz.usage_ledger USING brin (at)"
            " WITH (autosummarize = on)",
        )

    assert lines[0].startswith(
        "finding  database drift: index authz.usage_ledger_at_idx is missing; see sql/"
    )
    assert "PUBLIC has SELECT on TABLE authz.users; sidecar migrate revokes it" in lines[1]


def test_a_superuser_is_a_warning(doctor, monkeypatch, database_url):
    monkeypatch.setenv("SIDECAR_DATABASE_URL", database_url)

    code, found = doctor()

    assert code == 0
    assert found["database role"][0] == "warning"


def test_servers_that_refuse_or_are_silent_cost_a_few_seconds_in_sum(doctor, monkeypatch):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("SIDECAR_DATABASE_URL", f"postgresql://x:secret-word@{host},{host},{host}/x")
        monkeypatch.setenv("SIDECAR_OPA_URL", f"http://{host}")
        monkeypatch.setenv("SIDECAR_JWT_KEYS", f"http://{host}/jwks")
        began = monotonic()
        _, found = doctor()

    assert set(findings(found)) == {"database", "opa", "jwks"}
    assert monotonic() - began < 8


def test_an_opa_without_a_bundle_is_told(doctor, monkeypatch):
    with opa_server() as url:
        monkeypatch.setenv("SIDECAR_OPA_URL", url)
        _, found = doctor()

    assert set(findings(found)) == {"opa bundle"}


def test_the_embedded_engine_is_told_with_its_version_or_how_to_install_it(doctor, monkeypatch):
    monkeypatch.setenv("SIDECAR_ENGINE", "embedded")
    state, says = doctor()[1]["engine"]
    assert (state, says.split()[0]) == ("ok", "embedded")
    assert says.count("embedded") == 1

    monkeypatch.delitem(sys.modules, "sidecar.engines.embedded")
    monkeypatch.setitem(sys.modules, "regopy", None)
    assert "pip install 'policy-sidecar[embedded]'" in findings(doctor()[1])["engine"]


def test_an_opa_that_lacks_the_policy_of_another_domain_is_told_and_one_that_has_it_is_fine(
    doctor, monkeypatch, tmp_path
):
    folder = tmp_path / "domain"
    folder.mkdir()
    (folder / "own.rego").write_text("package authzen\n\ndefault decision := false\n")
    monkeypatch.setenv("SIDECAR_AUTHZEN_POLICY", str(folder))
    policy = authzen_policy_at(folder)

    assert set(findings(doctor()[1])) == {"opa authzen revision"}
    with opa_server(served_bundle(COMPILED, policy)) as url:
        monkeypatch.setenv("SIDECAR_OPA_URL", url)
        assert findings(doctor()[1]) == {}
        (folder / "own.rego").write_text("package authzen\n\ndefault decision := true\n")
        assert "is answered by, and the files are" in findings(doctor()[1])["opa authzen revision"]
        (folder / "own.rego").write_text("package other\n")
        assert set(findings(doctor()[1])) == {"authzen policy"}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"CONSOLE": "on", "CONSOLE_SECRET": "short"}, "SIDECAR_CONSOLE_SECRET: {file}: must have 32 bytes"),
        ({"LOG_MASK": "user", "LOG_MASK_KEY": "absent"}, "SIDECAR_LOG_MASK_KEY: {file}: No such file"),
    ],
)
def test_a_file_of_a_secret_that_serve_would_refuse_is_told(doctor, monkeypatch, tmp_path, settings, says):
    *_, (setting, name) = settings.items()
    (tmp_path / "short").write_text("too short")
    for key, value in (settings | {setting: tmp_path / name}).items():
        monkeypatch.setenv(f"SIDECAR_{key}", str(value))

    assert findings(doctor()[1])["settings"].startswith(says.format(file=tmp_path / name))


def test_the_login_that_reads_histories_is_looked_at(doctor, monkeypatch, login_url, database_url):
    monkeypatch.setenv("SIDECAR_AUDIT_URL", login_url)
    assert "authz_audit" in findings(doctor()[1])["auditor"]

    monkeypatch.setenv("SIDECAR_AUDIT_URL", database_url)
    assert doctor()[1]["auditor"][0] == "ok"


def test_a_tokens_file_and_keys_that_are_wrong_are_told(doctor, monkeypatch, tmp_path):
    (tmp_path / "tokens").write_text("nonsense\n")
    (tmp_path / "jwks.json").write_text("{}")

    assert set(findings(doctor()[1])) == {"tokens", "jwks"}


def test_a_tokens_file_that_others_may_write_is_told(doctor, tmp_path):
    (tmp_path / "tokens").chmod(0o666)

    assert "chmod" in findings(doctor()[1])["tokens"]


def test_an_address_that_another_program_has_is_told(doctor, monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("SIDECAR_BIND", f"127.0.0.1:{other.getsockname()[1]}")

        assert "in use" in findings(doctor()[1])["port"]


def test_the_functions_that_are_called_are_read_from_the_schema():
    assert {"facts_for", "consume_many", "refund", "catalog_revision", "anchor_log"} <= set(
        called_functions()
    )
    assert "enter" not in called_functions()
