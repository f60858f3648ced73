"""docs/operations/upgrade.md: its commands, one after the other, on real servers."""

from __future__ import annotations

import os
import shutil

import pytest

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.world import load
from tests.effort import THOROUGH
from tests.pages import blocks, postgres_binaries, run_block
from tests.postgres_server import DEMO_WORLD, a_server_folder, rows
from tests.values import the_catalog

pytestmark = pytest.mark.postgres

PAGE = "upgrade.md"


def with_our_files(folder):
    shutil.copytree(shipped("policies"), folder / "policies")
    shutil.copy(shipped("plans.yaml"), folder)
    return folder


def ran(block, environment, folder, **more):
    done = run_block(block, environment, folder=folder, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_sidecars_upgrade_says_what_it_would_do_does_it_and_finds_nothing_then(
    fresh_database_url, tmp_path
):
    folder = with_our_files(tmp_path)
    before, migrates, after = (
        block for block in blocks(PAGE) if "sidecar migrate" in block and "vacuumdb" not in block
    )
    where = {"OWNER_URL": fresh_database_url}

    assert "would publish" in ran(before, where, folder)
    assert "published" in ran(migrates, where, folder)
    assert "nothing to do" in ran(after, where, folder)


@pytest.mark.slow
@pytest.mark.skipif(not THOROUGH, reason="pg_upgrade takes 10 s: TEST_EFFORT=thorough, as .ci/run has it")
def test_pg_upgrade_leaves_everything_and_begins_an_epoch(tmp_path):
    """Of one version into the same one, since there is one here; what is done is the same."""
    with a_server_folder() as old, a_server_folder() as new:
        with EmbeddedPostgres(old) as server:
            migrate(server.url, catalog=the_catalog(), revision="dev")
            load(server.url, DEMO_WORLD)
        with EmbeddedPostgres(new):
            pass
        binaries = str(postgres_binaries())
        where = {
            "OLD_BIN": binaries,
            "NEW_BIN": binaries,
            "OLD_DATA": str(old / "cluster"),
            "NEW_DATA": str(new / "cluster"),
            "PGUSER": "postgres",
        }
        owner = (old / "cluster").stat()
        for folder in (old, new):
            folder.chmod(0o755)  # the server's user has to get to its cluster
        os.chown(new, owner.st_uid, owner.st_gid)
        checks, links = (block for block in blocks(PAGE) if "pg_upgrade" in block)
        for block in (checks, links):
            ran(block, where, new, owned_by=(owner.st_uid, owner.st_gid))
        [afterwards] = blocks(PAGE, "sh after")
        with EmbeddedPostgres(new) as server:
            said = ran(afterwards, {"OWNER_URL": server.url}, with_our_files(tmp_path))

            assert "the next write begins epoch 2 of the outbox" in said
            assert rows(server.url, "SELECT count(*) FROM authz.unaccounted()") == [(0,)]
            assert rows(server.url, "SELECT count(*) FROM authz.workspaces WHERE slug = 'acme'") == [(1,)]
