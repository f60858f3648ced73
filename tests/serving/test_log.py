"""The decision log of the whole product: sealed, anchored, in files, and never said to be what it is not."""

from __future__ import annotations

import json
import os
import signal
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread
from time import sleep

import psycopg
import pytest

from sidecar.identity.callers import SCOPES, token_line
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.serving.processes import children_of
from tests.serving.serving import run_to_its_end, serving

pytestmark = pytest.mark.long

QUESTION = {"user": "adam", "workspace": "acme", "action": "platform.use"}


def assert_whole(lines):
    """By the lines of docs/decision-log.md, and by no code of ours."""
    writer = json.loads(lines[0])["writer"].encode()
    previous = sha256(b"policy-sidecar decision log 1\n" + writer).digest()
    for number, line in enumerate(lines, 1):
        sealed, _, seal = line.encode().rpartition(b',"h":"')
        previous = sha256(previous + sealed).digest()
        assert seal == urlsafe_b64encode(previous).rstrip(b"=") + b'"}'
        assert json.loads(line)["n"] == number
    return previous


def by_writer(lines):
    found: dict[str, list[str]] = {}
    for line in lines:
        found.setdefault(json.loads(line)["writer"], []).append(line)
    return found


@contextmanager
def a_sidecar(folder, database, opa, **settings):
    with serving(
        folder, database_url=database, opa_url=opa and opa.url, deadline_ms=5_000, grace_s=10, **settings
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=60), sidecar.said
        yield sidecar


@contextmanager
def asking(sidecar, question=QUESTION, clients=3):
    """Meanwhile, as fast as it goes; gives the ids of the decisions that were answered."""
    answered: list[str] = []
    over = Event()

    def ask():
        while not over.is_set():
            try:
                status, answer = sidecar.request("POST", "/v1/authorize", question)
            except OSError:
                continue
            if status == 200:
                answered.append(answer["decision_id"])

    threads = [Thread(target=ask, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=15)


def test_in_a_folder_the_log_is_whole_over_a_reload_and_a_stop_and_its_ends_are_anchored(
    database, opa, tmp_path
):
    log = tmp_path / "log"
    with a_sidecar(tmp_path, database, opa, log_dir=log) as sidecar:
        with asking(sidecar) as answered:
            assert sidecar.until(lambda: len(answered) > 50)
            sidecar.signal(signal.SIGHUP)
            assert sidecar.until(lambda: "reloaded" in sidecar.said, within_s=60)
            so_far = len(answered)
            assert sidecar.until(lambda: len(answered) > so_far + 50)
        large = QUESTION | {"context": {"ip": "x" * 50_000}, "resource": "r" * 200}
        assert sidecar.request("POST", "/v1/authorize", large)[0] == 200

    files = [path.read_text().splitlines() for path in log.glob("*/*.jsonl")]
    assert len(files) == 4  # two workers, two generations
    heads = {json.loads(lines[-1])["writer"]: (len(lines), assert_whole(lines)) for lines in files}
    for lines in files:
        assert [json.loads(lines[place])["kind"] for place in (0, -1)] == ["begin", "end"]
    ids = [json.loads(line).get("decision_id") for lines in files for line in lines]
    assert set(answered) <= set(ids)
    with psycopg.connect(database) as connection:
        rows = connection.execute("SELECT writer, number, head FROM authz.log_anchors WHERE ended").fetchall()
        marks = connection.execute(
            "SELECT id, writer, encode(sha256, 'hex') FROM authz.history_digests"
        ).fetchall()
    told = [
        (line["mark"], line["writer"], line["sha256"])
        for line in map(json.loads, (line for lines in files for line in lines))
        if line["kind"] == "history"
    ]
    assert marks
    assert sorted(told) == sorted(mark for mark in marks if mark[1] in heads)
    anchored = {writer: (number, head) for writer, number, head in rows}
    assert {writer: anchored.get(writer) for writer in heads} == heads


def test_workers_that_are_killed_leave_whole_logs_on_standard_output(database, opa, tmp_path):
    with a_sidecar(tmp_path, database, opa) as sidecar, asking(sidecar) as answered:
        for so_many in (2, 4):
            so_far = len(answered)
            assert sidecar.until(lambda: len(answered) > so_far + 50, within_s=30)  # noqa: B023 - called here
            assert sidecar.until(lambda: sidecar.said.count("ready: revision") == so_many, within_s=30)  # noqa: B023 - ditto
            for worker in children_of(sidecar.process.pid):
                os.kill(worker, signal.SIGKILL)
        assert sidecar.until(lambda: sidecar.said.count("ready: revision") == 6, within_s=30)

    writers = by_writer(sidecar.log)
    assert len(writers) >= 4
    for lines in writers.values():
        assert_whole(lines)
        assert json.loads(lines[0])["kind"] == "begin"
    ends = [json.loads(lines[-1])["kind"] for lines in writers.values()]
    assert ends.count("end") == 2


@contextmanager
def a_slow_reader(folder):
    """Of standard output, a pipe: what it reads is in `stdout` afterwards."""
    pipe, read = folder / "stdout", bytearray()
    os.mkfifo(pipe)

    def drink():
        with pipe.open("rb", buffering=0) as stream:
            while piece := stream.read(4_096):
                read.extend(piece)
                sleep(0.002)

    reader = Thread(target=drink, daemon=True)
    reader.start()
    yield
    reader.join(timeout=30)
    pipe.unlink()
    pipe.write_bytes(read)


@pytest.mark.slow
def test_lines_with_a_long_context_are_whole_beside_a_slow_reader(
    fresh_database_url, policies_with_context, tmp_path
):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    compiled = compiled_at(shipped("plans.yaml"), policies_with_context)
    migrate(fresh_database_url, catalog=compiled.catalog, revision=compiled.revision)
    embedded = {"engine": "embedded", "policies": policies_with_context, "workers": 3}
    long = QUESTION | {"context": {"ip": "x" * 60_000}}
    with (
        a_slow_reader(tmp_path),
        a_sidecar(tmp_path, fresh_database_url, None, **embedded) as sidecar,
        asking(sidecar, long) as answered,
    ):
        assert sidecar.until(lambda: len(answered) > 300, within_s=30)

    assert (tmp_path / "stdout").read_bytes().endswith(b"\n")
    lines = (tmp_path / "stdout").read_text().splitlines()
    writers = by_writer(lines)
    assert len(writers) == 3
    for own in writers.values():
        assert_whole(own)
        assert [json.loads(own[place])["kind"] for place in (0, -1)] == ["begin", "end"]
    told = [line for line in map(json.loads, lines) if line["kind"] == "decision"]
    assert {line["decision_id"] for line in told} >= set(answered)
    assert {tuple(line["situation"]["context"]["ip"]) for line in told} == {("sha256", "bytes")}
    assert max(map(len, lines)) < 4_096


def test_with_wait_no_answer_is_without_its_line_and_a_full_disk_is_503(database, opa, tmp_path):
    log = tmp_path / "log"
    with a_sidecar(tmp_path, database, opa, log_dir=log, log_sync="wait", workers=1) as sidecar:
        ids = [sidecar.request("POST", "/v1/authorize", QUESTION)[1]["decision_id"] for _ in range(5)]
        [file] = log.glob("*/*.jsonl")
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        assert {line.get("decision_id") for line in lines} >= set(ids)

        [worker] = children_of(sidecar.process.pid)
        size = file.stat().st_size
        limit = (size + 100, size + 1_000_000)
        with limited_files(worker, limit):
            paths = [
                ("POST", "/v1/authorize", QUESTION),
                ("GET", "/v1/workspaces/acme/entitlements?user=adam", None),
                ("POST", "/v1/authorize/batch", {"questions": [QUESTION]}),
            ]
            for method, path, body in paths:
                status, answer = sidecar.request(method, path, body)
                assert (status, answer["code"]) == (503, "log_unavailable")
            assert sidecar.request("GET", "/healthz")[0] == 200
        assert sidecar.until(lambda: sidecar.request("POST", "/v1/authorize", QUESTION)[0] == 200)

    assert_whole(file.read_text().splitlines())


@contextmanager
def limited_files(pid, limit):
    """What it writes beyond that fails, as on a disk that is full; Python ignores the signal."""
    import resource  # noqa: PLC0415 - of this one

    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limit[1], limit[1]))
        assert before


def test_a_database_that_is_down_holds_up_no_line(tmp_path, database, opa):
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER FUNCTION authz.anchor_log RENAME TO anchor_log_gone")
        try:
            tokens = tmp_path / "tokens"
            tokens.write_text(token_line("all", SCOPES, "t") + "\n")
            with a_sidecar(tmp_path, database, opa, workers=1, tokens=tokens) as sidecar:
                sidecar.headers = {"Authorization": "Bearer t"}
                assert sidecar.request("POST", "/v1/authorize", QUESTION)[0] == 200

                def age():
                    text = sidecar.request("GET", "/metrics")[1].decode()
                    [line] = [each for each in text.splitlines() if each.startswith("sidecar_log_anchor_age")]
                    return float(line.rpartition(" ")[2])

                assert sidecar.until(lambda: age() > 1, within_s=15)
        finally:
            connection.execute("ALTER FUNCTION authz.anchor_log_gone RENAME TO anchor_log")

    assert_whole(sidecar.log)


def test_masks_and_what_is_left_out(tmp_path, database, opa):
    key = tmp_path / "mask.key"
    key.write_text("0123456789abcdef0123456789abcdef\n")
    key.chmod(0o600)
    settings = {"log_mask": "user,workspace", "log_mask_key": key, "log_skip": "check-grants", "workers": 1}
    with a_sidecar(tmp_path, database, opa, **settings) as sidecar:
        for action in ("platform.use", "workspace.delete", "workspace.delete"):
            assert sidecar.request("POST", "/v1/authorize", QUESTION | {"action": action})[0] == 200
        assert sidecar.request("GET", "/v1/workspaces/acme/entitlements?user=adam")[0] == 200

    denied, again, listed = sidecar.lines
    [told] = [line for line in map(json.loads, sidecar.log) if line["kind"] == "skipped"]
    assert (told["count"], told["what"]) == (1, "check-grants")
    assert denied["allow"] is False
    assert denied["user"].startswith("mac:")
    assert denied["user"] == again["user"] == listed["user"]
    assert "adam" not in "".join(sidecar.log)
    assert "acme" not in "".join(sidecar.log)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"log_dir": "/proc/nowhere"}, "SIDECAR_LOG_DIR: /proc/nowhere: "),
        ({"log_mask": "user"}, "SIDECAR_LOG_MASK_KEY: is required with SIDECAR_LOG_MASK"),
        ({"log_mask": "users", "log_mask_key": "/x"}, "SIDECAR_LOG_MASK: must be some of "),
        ({"log_mask": "user", "log_mask_key": "/nowhere"}, "SIDECAR_LOG_MASK_KEY: /nowhere: No such file"),
        ({"log_sync": "maybe"}, "SIDECAR_LOG_SYNC: must be no, yes or wait"),
        ({"log_skip": "grants"}, "SIDECAR_LOG_SKIP: must be check-grants"),
    ],
)
def test_a_log_that_cannot_be_as_it_is_wanted_is_refused_at_the_start(settings, said):
    plans = Path("plans.yaml").resolve()
    done = run_to_its_end(database_url="postgresql://nobody@127.0.0.1:1/x", plans=plans, **settings)

    assert (done.returncode, said in done.stderr) == (78, True), done.stderr


def test_a_mask_key_that_others_may_read_or_that_is_short_is_refused(tmp_path):
    key = tmp_path / "mask.key"
    key.write_text("short\n")
    key.chmod(0o644)

    done = run_to_its_end(
        database_url="postgresql://nobody@127.0.0.1:1/x",
        plans=Path("plans.yaml").resolve(),
        log_mask="user",
        log_mask_key=key,
    )

    assert done.returncode == 78
    assert f"{key}: must have 16 bytes or more" in done.stderr
    assert f"{key}: others may read it; chmod 600" in done.stderr
