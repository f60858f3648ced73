"""`sidecar audit verify-log` of a real log, with the database that it is about, and without."""

from __future__ import annotations

import gzip
import json
import os
import signal
from contextlib import contextmanager
from http.client import HTTPException
from threading import Event, Thread

import psycopg
import pytest

from sidecar.audit.chain import Chain
from sidecar.telemetry.own_lines import own_line
from tests.cli.audited.conftest import a_sidecar
from tests.cli.audited.edits import edit, longest
from tests.postgres_server import a_database
from tests.serving.processes import children_of

pytestmark = pytest.mark.postgres


def test_the_log_of_a_day_is_whole_and_complete(log, audited, verify, sidecar):
    code, report = verify(log, "--database-url", audited)

    assert (report["whole"], report["complete"]) == (
        {"ok": True, "findings": []},
        {"ok": True, "findings": [], "not_looked_at": []},
    )
    assert code == 0
    assert (report["files"], report["writers"], report["unsealed"]) == (2, 2, 0)
    assert sidecar("verify-log", log, "--database-url", audited)[1].startswith("2 files, 2 writers, ")


def whole(verify, *arguments):
    code, report = verify(*arguments)
    assert (code == 0) == report["whole"]["ok"], report["complete"]
    return [(found["what"], found["writer"]) for found in report["whole"]["findings"]]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda lines: [*lines[:3], lines[3].replace(b'"at":"2', b'"at":"3'), *lines[4:]], "edited"),
        (lambda lines: [*lines[:3], *lines[4:]], "removed_or_moved"),
        (lambda lines: lines[:-2], "cut_off"),
        (lambda lines: lines[1:], "removed_or_moved"),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], "removed_or_moved"),
        (lambda lines: [*lines[:3], lines[3][:-9] + b"\n", *lines[4:]], "not_a_line"),
        (lambda lines: [*lines[:-1], lines[-1][:-9]], "torn"),
    ],
)
def test_tampering_with_a_real_log_is_found_with_the_database(copy, audited, verify, change, what):
    path = longest(copy)
    edit(path, change)

    assert whole(verify, copy, "--database-url", audited, "--whole-only") == [(what, path.stem)]


def test_a_writer_whose_file_is_gone_is_known_to_the_database_alone(copy, audited, verify):
    path = min(copy.glob("*/*.jsonl"), key=lambda path: path.stat().st_size)
    path.unlink()

    assert whole(verify, copy, "--whole-only") == []
    assert whole(verify, copy, "--database-url", audited, "--whole-only") == [("file_missing", path.stem)]


def test_a_log_of_a_writer_that_the_database_does_not_know_is_told(copy, audited, verify, sidecar):
    """It was made up, or the database was never there while it was written."""
    made_up, chain = copy / "2026-11-01/host-1-1.jsonl", Chain("host-1-1")
    made_up.parent.mkdir()
    made_up.write_bytes(b"".join(chain.seal(own_line(kind, {})) for kind in ("begin", "end")))

    _, report = verify(copy, "--database-url", audited)

    assert report["headless"] == ["host-1-1"]
    assert "no head is known of host-1-1: " in sidecar("verify-log", copy, "--database-url", audited)[1]
    assert verify(copy)[1]["headless"] == []


def test_printed_heads_find_what_the_database_would(copy, verify, sidecar, tmp_path):
    code, heads, _ = sidecar("verify-log", copy, "--print-heads")
    assert (code, len(heads.splitlines())) == (0, 3)
    (tmp_path / "heads").write_text(heads)
    assert whole(verify, copy, "--heads", tmp_path / "heads") == []
    path = longest(copy)
    edit(path, lambda lines: lines[:-1])

    assert whole(verify, copy, "--heads", tmp_path / "heads", "--whole-only") == [("cut_off", path.stem)]


def test_heads_of_a_log_that_is_not_whole_are_not_printed(copy, sidecar):
    edit(longest(copy), lambda lines: lines[1:])

    code, out, err = sidecar("verify-log", copy, "--print-heads")

    assert (code, out) == (1, "")
    assert "removed or moved" in err


def test_gzipped_files_and_standard_input_are_read_alike(copy, audited, verify, monkeypatch):
    for path in list(copy.glob("*/*.jsonl")):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()

    assert verify(copy, "--database-url", audited)[0] == 0


def test_a_damaged_gzip_is_told(copy, verify):
    path = longest(copy)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes())[:-300])
    path.unlink()

    _, report = verify(copy)

    assert "gzip" in " ".join(found["detail"] for found in report["whole"]["findings"])


def gaps(report):
    return {(gap["source"], gap["decision_id"]) for gap in report["complete"]["findings"]}


def test_an_effect_without_its_line_is_named(copy, audited, verify):
    lines = [line for path in copy.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    taken = {line["decision_id"] for line in map(json.loads, lines) if line.get("mode") == "consume"}
    for path in copy.glob("*/*.jsonl"):
        edit(path, lambda lines: [line for line in lines if b'"minutes"' not in line])

    _, report = verify(copy, "--database-url", audited)

    assert {("usage_ledger", decision) for decision in taken} <= gaps(report)


def test_what_is_done_behind_the_sidecars_back_is_not_complete(postgres_server, audited, copy, verify):
    """On a database of its own: nothing there is to be undone."""
    with psycopg.connect(audited, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    name = psycopg.conninfo.conninfo_to_dict(audited)["dbname"]
    for url in a_database(postgres_server, template=str(name)):
        with psycopg.connect(url) as connection:
            connection.execute("SET session_replication_role = replica")
            at = "(SELECT max(at) FROM authz.outbox)"
            connection.execute("UPDATE authz.workspace_memberships SET role = 'admin' WHERE user_id = 'sam'")
            connection.execute(
                "INSERT INTO authz.outbox (at, workspace_id, actor, actor_kind, kind, data)"
                f" SELECT {at}, id, 'eve', 'user', 'member.left', '{{}}' FROM authz.workspaces LIMIT 1"
            )
            connection.execute("DELETE FROM authz.policy_history")
            first = "(SELECT min(id) FROM authz.outbox)"
            connection.execute(f"UPDATE authz.outbox SET actor = 'eve' WHERE id = {first}")
        _, report = verify(copy, "--database-url", url)

    assert {source for source, _ in gaps(report)} == {"outbox", "unaccounted", "policy_history"}
    assert [(found["what"], "history" in found["detail"]) for found in report["whole"]["findings"]] == [
        ("rewritten", True)
    ]


def test_without_a_database_what_it_knows_is_not_looked_at(log, verify):
    code, report = verify(log)

    assert code == 0
    assert report["complete"]["not_looked_at"] == [
        "usage_ledger",
        "outbox",
        "history",
        "unaccounted",
        "policy_history",
    ]


@contextmanager
def enough_for_all(sidecar):
    overrides = "/v1/workspaces/acme/overrides"
    assert sidecar.request("PUT", overrides, {"limits": {"minutes": "unlimited"}})[0] == 200
    yield
    assert sidecar.until(lambda: sidecar.request("PUT", overrides, {})[0] == 200)


@contextmanager
def taking(sidecar):
    """Meanwhile, as fast as it goes; gives the ids of the decisions that have taken something."""
    answered: list[str] = []
    over = Event()

    def take():
        while not over.is_set():
            try:
                status, answer = sidecar.ask(mode="consume", amounts={"minutes": 1})
            except (OSError, HTTPException):
                continue
            if status == 200 and answer["allow"]:
                answered.append(answer["decision_id"])

    threads = [Thread(target=take, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    yield answered
    over.set()
    for thread in threads:
        thread.join(timeout=15)


@pytest.mark.slow
def test_workers_that_are_killed_under_load_leave_a_whole_log_and_each_lost_line_is_named(
    log, audited, tmp_path, verify
):
    with (
        a_sidecar(tmp_path, audited, workers=2) as sidecar,
        enough_for_all(sidecar),
        taking(sidecar) as answered,
    ):
        for _ in range(3):
            so_far = len(answered)
            assert sidecar.until(lambda: len(answered) > so_far + 50, within_s=60)  # noqa: B023 - called here
            workers = children_of(sidecar.process.pid)
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
            assert sidecar.until(lambda: not children_of(sidecar.process.pid) & workers, within_s=30)  # noqa: B023 - ditto
        assert verify(tmp_path / "log", "--whole-only")[1]["whole"]["ok"]  # it is still being written
    files = [path.read_bytes() for path in (tmp_path / "log").glob("*/*.jsonl")]
    code, report = verify(log, tmp_path / "log", "--database-url", audited)

    assert (code, report["whole"]) == (1, {"ok": True, "findings": []})
    ends = [
        gap["writer"]
        for gap in report["complete"]["findings"]
        if "without an end line" in gap["detail"] or "torn" in gap["detail"]
    ]
    assert len(ends) == 6
    lost = {id_ for id_ in answered if not any(id_.encode() in content for content in files)}
    named = {gap["decision_id"] for gap in report["complete"]["findings"] if gap["source"] == "usage_ledger"}
    assert lost <= named
    assert not any(id_.encode() in content for id_ in named for content in files)
