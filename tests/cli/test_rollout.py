"""`sidecar rollout`: each step, and that none is taken after one that failed."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sidecar.cli import main
from sidecar.rego.bundle import bundle
from sidecar.rego.compile import data_file
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from sidecar.store.publish import Files
from tests.cli.test_audit_diff import edited
from tests.postgres_server import rows
from tests.servers import free_port, on_a_thread
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.long]

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
PARTS = ("worker", "engine", "database", "authzen")


@pytest.fixture
def url(fresh_database_url):
    """With the demo world, and the shipped files published and kept."""
    files = Files(plans=shipped("plans.yaml").read_bytes(), bundle=bundle(COMPILED), version="1")
    migrate(fresh_database_url, catalog=COMPILED.catalog, revision=COMPILED.revision, files=files)
    return fresh_database_url


def write(folder, plans):
    """The catalog, and the data that `sidecar compile` makes of it."""
    (folder / "plans.yaml").write_text(plans)
    catalog = compiled_at(folder / "plans.yaml", folder / "policies").catalog
    (folder / "policies/authz/plans/data.json").write_bytes(data_file(catalog))


@pytest.fixture
def folder(tmp_path):
    """The shipped catalog with a change that takes something from members."""
    shutil.copytree(shipped("policies"), tmp_path / "policies")
    write(tmp_path, edited(shipped("plans.yaml").read_text()))
    return tmp_path


@pytest.fixture
def rollout(folder, url, monkeypatch, capsys):
    """(exit code, standard output and error) of the command in *folder*."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SIDECAR_DATABASE_URL", url)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["sidecar", "rollout", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return ended.value.code, said.out + said.err

    return run


def published(url):
    return rows(url, "SELECT revision FROM authz.catalog")[0][0]


def revision_of(folder):
    return compiled_at(folder / "plans.yaml", folder / "policies").revision


@contextmanager
def a_server_that_says(document, *, status=200):
    """Its URL. *document* is called for each answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = json.dumps(document()).encode()
            self.send_response(status if self.path == "/statusz" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with on_a_thread(server) as url:
        yield url


def a_status(revision, **causes):
    part = {"revision": revision, "since": "2026-11-29T02:00:00Z", "cause": None, "do": None}
    parts = {name: part | causes.get(name, {}) for name in PARTS}
    return {"converged": not causes, "wanted": revision} | parts


def test_it_publishes_and_says_whom_it_concerns(rollout, url, folder):
    code, said = rollout()

    assert code == 0
    assert re.search(r"^lost +analytics.view .* piano: pia$", said, re.MULTILINE)
    assert f"published {revision_of(folder)}, before: {COMPILED.revision}" in said
    assert published(url) == revision_of(folder)


def test_a_dry_run_prints_markdown_and_changes_nothing(rollout, url):
    code, said = rollout("--dry-run")

    assert code == 0
    assert said.startswith("## Rollout, tried\n\n- ")
    assert "| lost | members.remove | 1 workspace, 1 person | acme: adam |" in said
    assert "published" not in said
    assert published(url) == COMPILED.revision


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_mistake_in_the_files_stops_it_before_anything(rollout, url, folder, words):
    plans = folder / "plans.yaml"
    plans.write_text(plans.read_text().replace("role: owner", "role: emperor", 1))

    code, said = rollout(*words)

    assert code == 1
    assert "emperor" in said
    assert published(url) == COMPILED.revision


def test_a_loss_stops_it_if_that_is_wanted(rollout, url):
    assert rollout("--fail-on", "gain", "--dry-run")[0] == 0
    code, said = rollout("--fail-on", "loss")

    assert (code, said.splitlines()[-1]) == (1, "--fail-on loss: nothing was published")
    assert published(url) == COMPILED.revision


def test_a_plan_that_workspaces_are_on_cannot_go(rollout, url, folder):
    write(folder, re.sub(r"\bpro\b", "professional", (folder / "plans.yaml").read_text()))

    code, said = rollout()

    assert code == 1
    assert "piano is on pro" in said
    assert published(url) == COMPILED.revision


def test_a_server_that_is_not_reached_stops_it_before_it_publishes(rollout, url):
    code, said = rollout("--status", f"http://127.0.0.1:{free_port()}")

    assert code == 69
    assert "is not reached" in said
    assert published(url) == COMPILED.revision


@pytest.mark.parametrize("document", [{}, [], "no", {"converged": True, "wanted": "x"}])
def test_what_is_no_sidecar_is_not_asked(rollout, url, document):
    with a_server_that_says(lambda: document) as server:
        code, said = rollout("--status", server)

    assert code == 69
    assert "as /statusz of a sidecar does" in said
    assert published(url) == COMPILED.revision


def test_a_status_that_is_no_url_is_exit_code_78(rollout):
    assert rollout("--status", "localhost")[0] == 78


def test_a_database_that_is_not_reached_is_exit_code_69(rollout):
    assert rollout("--database-url", f"postgresql://x@127.0.0.1:{free_port()}/x")[0] == 69


def test_a_server_that_does_not_follow_is_exit_code_75_and_says_what_to_do(rollout, url, folder):
    wanted = revision_of(folder)
    engine = {"cause": "policy_revision_mismatch", "do": "run sidecar compile"}
    with (
        a_server_that_says(lambda: a_status(COMPILED.revision)) as old,
        a_server_that_says(lambda: a_status(wanted, engine=engine)) as half,
    ):
        code, said = rollout("--status", old, "--status", half, "--within", "1")

    assert code == 75
    assert published(url) == wanted
    assert f"waiting for {old}: its files are of revision {COMPILED.revision[:8]}…" in said
    assert f"{half}: engine: policy_revision_mismatch; run sidecar compile" in said.splitlines()
    assert "published, but 2 of 2 have not followed within 1 s" in said


def test_one_worker_of_several_that_does_not_follow_keeps_it_waiting(rollout, folder):
    wanted, answers = revision_of(folder), iter(range(1_000))

    def in_turn():
        return a_status(COMPILED.revision if next(answers) % 6 == 5 else wanted)

    with a_server_that_says(in_turn) as server:
        assert rollout("--status", server, "--within", "4")[0] == 75


def test_a_server_that_has_gone_since_is_not_asked(rollout, folder):
    wanted, asked = revision_of(folder), []

    def once():
        asked.append(1)
        return a_status(wanted) if len(asked) == 1 else {}

    with a_server_that_says(once) as server:
        assert rollout("--status", server, "--within", "1")[0] == 69


def test_nothing_published_yet_is_no_obstacle(rollout, folder, empty_database_url):
    code, said = rollout("--database-url", empty_database_url)

    assert code == 0
    assert published(empty_database_url) == revision_of(folder)
    assert "whom it concerns cannot be told" in said


@pytest.mark.long
@pytest.mark.slow
def test_a_real_server_is_waited_for_until_it_follows(rollout, url, folder, tmp_path_factory):
    with serving(
        tmp_path_factory.mktemp("sidecar"),
        database_url=url,
        engine="embedded",
        plans=folder / "plans.yaml",
        policies=folder / "policies",
    ) as sidecar:
        server = f"http://127.0.0.1:{sidecar.port}"
        code, said = rollout("--status", server, "--within", "60")

        assert code == 0, said
        assert f"converged: 1 of 1 servers serve {revision_of(folder)}" in said
        assert sidecar.request("GET", "/statusz")[1]["converged"] is True
