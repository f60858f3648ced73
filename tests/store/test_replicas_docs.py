"""docs/operations/replicas.md: each command of it runs, with a real replica and a sidecar that reads it."""

from __future__ import annotations

import pytest

from sidecar.identity.callers import append_line, new_token, token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.pages import blocks, run_block
from tests.postgres_server import rows, run
from tests.serving.scripted_opa import scripted_opa
from tests.serving.serving import serving
from tests.store.asking import until
from tests.store.replicating import a_demo_pair

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

PAGE = "replicas.md"
# What each command prints, among the rest.
PRINTS = {
    "sidecar doctor": "replica 1",
    "curl": 'sidecar_replica_used{replica="1"} 1.0',
    "'FIRST 1 (replica1)'": "ALTER SYSTEM",
    "pg_stat_replication": "streaming",
    "ALTER ROLE": "ALTER ROLE",
    "SELECT until": "(1 row)",
    "synchronous_standby_names = ''": "ALTER SYSTEM",
    "pg_is_in_recovery()": "| t",
}


def test_each_command_runs_and_prints_what_it_is_for(tmp_path):
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    token, tokens = new_token(), tmp_path / "tokens"
    append_line(tokens, token_line("operator", ["audit"], token))
    with a_demo_pair() as pair, scripted_opa(compiled.revision) as opa:
        migrate(pair.primary, catalog=compiled.catalog, revision=compiled.revision)
        run(pair.primary, "CREATE ROLE a_sidecar LOGIN IN ROLE authz_sidecar")
        name_standby(pair, "replica1")
        pair.catch_up()
        with serving(
            tmp_path,
            database_url=pair.primary,
            facts_urls=pair.standby,
            opa_url=opa.url,
            tokens=tokens,
            workers=1,
        ) as sidecar:
            used = sidecar.until(lambda: b'replica_used{replica="1"} 1' in metrics(sidecar, token))
            assert used, sidecar.said
            environment = {
                "SIDECAR": f"http://127.0.0.1:{sidecar.port}",
                "SIDECAR_BIND": f"127.0.0.1:{sidecar.port}",
                "SIDECAR_DATABASE_URL": pair.primary,
                "SIDECAR_FACTS_URLS": pair.standby,
                "SIDECAR_OPA_URL": opa.url,
                "SIDECAR_PLANS": str(shipped("plans.yaml")),
                "SIDECAR_TOKENS": str(tokens),
                "LOGIN": "a_sidecar",
                "OWNER_URL": pair.primary,
                "REPLICA_URL": pair.standby,
                "TOKEN": token,
            }
            found = {block: run_block(block, environment, folder=tmp_path) for block in blocks(PAGE)}
        assert rows(pair.primary, "SHOW synchronous_standby_names") == [("",)]

    assert len(found) == len(PRINTS)
    for (block, ran), (named, printed) in zip(found.items(), PRINTS.items(), strict=True):
        assert named in block
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert printed in ran.stdout, ran.stdout + ran.stderr


def name_standby(pair, name):
    [(conninfo,)] = rows(pair.standby, "SHOW primary_conninfo")
    named = conninfo.replace("'", "''") + f" application_name={name}"
    run(pair.standby, f"ALTER SYSTEM SET primary_conninfo = '{named}'", "SELECT pg_reload_conf()")
    streaming = "SELECT count(*) FROM pg_stat_replication WHERE application_name = %s"
    assert until(lambda: rows(pair.primary, streaming, name) == [(1,)], within_s=20)


def metrics(sidecar, token):
    return sidecar.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})[1]
