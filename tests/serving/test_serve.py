"""`sidecar serve` over real sockets: what gunicorn lets through, and how a process starts and ends."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
from contextlib import closing
from threading import Event, Thread
from time import sleep

import pytest

from sidecar.errors import ConfigError
from sidecar.identity.callers import token_line
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.serving.loaded import load
from sidecar.settings import Settings, shipped
from tests.api.authzen_server import SCENARIOS
from tests.servers import opa_server
from tests.serving.serving import QUESTION, run_to_its_end, serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

BODY = json.dumps(QUESTION).encode()
ASK = (
    b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n%s\r\n%s"
)


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_it_answers(sidecar):
    status, answer = sidecar.ask()

    assert (status, answer["reason"], answer["role"]) == (200, "granted", "admin")


def test_it_says_that_it_is_ready_and_that_all_its_parts_have_one_revision(sidecar, compiled):
    part = {"ready": True, "revision": compiled.revision}
    expected = {"ready": True, "worker": part, "database": part}

    assert sidecar.until(lambda: sidecar.request("GET", "/readyz") == (200, expected))
    assert sidecar.until(lambda: sidecar.request("GET", "/statusz")[1]["converged"])
    status = sidecar.request("GET", "/statusz")[1]
    assert [status[name]["revision"] for name in ("worker", "engine", "database", "authzen")] == [
        compiled.revision,
        compiled.revision,
        compiled.revision,
        None,
    ]
    assert status["wanted"] == compiled.revision
    assert {status[name]["cause"] for name in ("worker", "engine", "database", "authzen")} == {None}
    assert status["engine"]["kind"] == "opa"


@pytest.mark.parametrize(
    "header",
    [
        b"SCRIPT_NAME: /v1\r\n",
        b"Script-Name: /v1\r\n",
        b"PATH_INFO: /healthz\r\n",
        b"X-Forwarded-Prefix: /v1\r\n",
        b"X-Original-URL: /healthz\r\n",
    ],
)
def test_no_header_moves_a_path(sidecar, header):
    for path, status in ((b"/v1/healthz", 404), (b"/healthz", 200)):
        answer = sidecar.raw(b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, header))

        assert status_of(answer) == status


@pytest.mark.parametrize(
    "path",
    [
        b"//v1/authorize",
        b"/v1//authorize",
        b"/v1/./authorize",
        b"/v1/x/../authorize",
        b"/v1/authorize/",
        b"/%%761/authorize",
    ],
)
def test_a_path_is_taken_as_it_is_written(sidecar, path):
    answer = sidecar.raw(ASK.replace(b"/v1/authorize", path) % (len(BODY), b"", BODY))

    assert status_of(answer) == 404


def test_a_target_in_absolute_form_is_the_path_in_it(sidecar):
    answer = sidecar.raw(ASK.replace(b"/v1/authorize", b"http://x/v1/authorize") % (len(BODY), b"", BODY))

    assert status_of(answer) == 200


def test_an_answer_to_head_has_no_body_that_the_next_one_would_begin_with(sidecar):
    ask = b"%s /gw/nginx HTTP/1.1\r\nHost: x\r\n\r\n"

    answers = sidecar.raw(ask % b"HEAD" + ask % b"GET")

    head, _, rest = answers.partition(b"\r\n\r\n")
    assert (status_of(head), status_of(rest)) == (403, 403)
    assert b"gateway_unreadable" in rest


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (ASK % (len(BODY), b"Content-Length: 3\r\n", BODY), {400}),
        (ASK % (len(BODY), b"Transfer-Encoding: chunked\r\n", BODY), {400}),
        (ASK % (len(BODY), b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n", BODY), {401}),
        (ASK % (len(BODY), b"Authorization : Bearer a\r\n", BODY), {400}),
        (ASK % (len(BODY), b"X_Request_ID: a\r\n", BODY), {200}),
        (ASK % (len(BODY), b"X-Long: %s\r\n" % (b"a" * 140_000), BODY), {431}),
        (ASK % (len(BODY), b"X-Many: 1\r\n" * 1_100, BODY), {431}),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", {404, 405, 400}),
        (b"OPTIONS /v1/authorize HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
        (b"TRACE /healthz HTTP/1.1\r\nHost: x\r\n\r\n", {405}),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n", {400, 404, 405}),
        (b"GET /" + b"a" * 140_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", {431}),
        (b"nonsense\r\n\r\n", {400}),
    ],
)
def test_what_is_ambiguous_is_refused(sidecar, content, statuses):
    assert status_of(sidecar.raw(content)) in statuses


CHUNKED = (
    b"POST /v1/authorize HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


def test_a_body_may_come_in_chunks(sidecar):
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)

    assert status_of(sidecar.raw(CHUNKED + chunks)) == 200


@pytest.mark.parametrize(
    "chunks", [b"zz\r\nabc\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"-1\r\n\r\n", b"3\nabc\n0\n\n"]
)
def test_chunks_that_are_none_are_refused(sidecar, chunks):
    answer = sidecar.raw(CHUNKED + chunks, shut=True)

    assert not answer or status_of(answer) == 400  # who hangs up in the middle is not answered


def test_a_body_of_unknown_length_is_read_only_as_far_as_it_may_be(sidecar):
    chunk = b"8000\r\n%s\r\n" % (b" " * 0x8000)

    assert status_of(sidecar.raw(CHUNKED + chunk * 3 + b"0\r\n\r\n")) == 413


def test_a_body_that_is_announced_too_large_is_not_waited_for(sidecar):
    answer = sidecar.raw(ASK % (10**12, b"", b""))

    assert status_of(answer) == 413


def test_many_questions_go_over_one_connection(sidecar):
    answers = sidecar.raw((ASK % (len(BODY), b"", BODY)) * 3)

    assert answers.count(b"HTTP/1.1 200 OK") == 3


def test_each_question_has_a_line_on_standard_output(sidecar):
    sidecar.ask(user="mia", action="members.invite")

    def line():
        return [each for each in sidecar.lines if each.get("user") == "mia"]

    assert sidecar.until(line)
    assert [(each["reason"], each["status"], each["caller"]) for each in line()] == [
        ("role_insufficient", 403, "loopback")
    ]


def test_settings_are_refused_all_at_once_without_a_traceback(tmp_path):
    ended = run_to_its_end(bind="0.0.0.0:1", opa_hsot="x", deadline_ms="soon", workers=0)

    assert (ended.returncode, ended.stdout) == (78, "")
    assert [line.split(":")[0] for line in ended.stderr.splitlines()] == [
        "SIDECAR_OPA_HSOT",
        "SIDECAR_DATABASE_URL",
        "SIDECAR_WORKERS",
        "SIDECAR_DEADLINE_MS",
        "SIDECAR_BIND",
    ]


def test_files_are_refused_all_at_once_before_anything_listens(tmp_path):
    plans, tokens = tmp_path / "plans.yaml", tmp_path / "tokens"
    plans.write_text(shipped("plans.yaml").read_text().replace("extends: starter", "extends: startr"))
    tokens.write_text("nonsense\n")

    ended = run_to_its_end(database_url="postgresql://x/y", plans=plans, tokens=tokens)

    assert (ended.returncode, ended.stdout) == (78, "")
    assert "(unknown_plan)" in ended.stderr or "startr" in ended.stderr
    assert f"{tokens}:1: expected NAME SCOPE[,SCOPE…] sha256:HASH, got 1 words" in ended.stderr
    assert "Traceback" not in ended.stderr


UNDEFINED = 'package authzen\n\ndecision := true if input.subject.id == "alice"\n'


@pytest.mark.parametrize(
    ("rego", "says"),
    [
        ("package authzen\n\nallow := true\n", "no rule decision in the package authzen"),
        ("package other\n\ndecision := true\n", "expected package authzen"),
        (UNDEFINED, "is undefined"),
        ("package authzen\n\ndecision := 7\n", "neither true, nor false"),
        ("package authzen\n\ndecision := {\n", "does_not_build"),
    ],
)
def test_another_domains_policy_without_an_answer_is_refused(tmp_path, rego, says):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    (tmp_path / "policy.rego").write_text(rego)

    with pytest.raises(ConfigError) as refused:
        load(
            Settings(
                database_url="postgresql://x/y",
                plans=shipped("plans.yaml"),
                engine="embedded",
                authzen_policy=tmp_path,
            )
        )

    problem = refused.value.problems[0]
    assert says in problem.detail
    assert problem.pointer.startswith(str(tmp_path))


def test_another_domains_policy_is_refused_before_anything_listens(tmp_path):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    (tmp_path / "policy.rego").write_text(UNDEFINED)

    ended = run_to_its_end(
        "--authzen-policy", str(tmp_path), database_url="postgresql://x/y", engine="embedded"
    )

    assert (ended.returncode, ended.stdout) == (78, "")
    assert "data.authz.authzen.decision is undefined" in ended.stderr
    assert ended.stderr.startswith(str(tmp_path))
    assert "Traceback" not in ended.stderr


@pytest.mark.opa
def test_an_opa_without_the_same_policy_of_another_domain_makes_it_red(tmp_path, database, compiled):
    policy = SCENARIOS / "todo"
    other = bundle(compiled, authzen_policy_at(SCENARIOS / "idp"))
    question = {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "delete"},
        "resource": {"type": "record", "id": "101"},
    }
    for content, code in ((bundle(compiled), "misbehaved"), (other, "revision_mismatch")):
        with (
            opa_server(content) as url,
            serving(
                tmp_path, database_url=database, opa_url=url, workers=1, authzen_policy=policy
            ) as sidecar,
        ):
            assert sidecar.until(lambda: sidecar.status()["authzen"]["cause"] not in {None, "starting"})
            status = sidecar.status()
            readiness = sidecar.request("GET", "/readyz")[0]
            asked, problem = sidecar.request("POST", "/access/v1/evaluation", question)

        assert (readiness, status["converged"], status["engine"]["cause"]) == (503, False, None)
        assert status["authzen"]["cause"].endswith(code)
        assert (asked, problem["code"]) == (503, "starting")


def test_it_does_not_start_open_to_other_machines():
    ended = run_to_its_end(database_url="postgresql://x/y", bind="0.0.0.0:18099")

    assert ended.returncode == 78
    assert "can be reached from other machines" in ended.stderr


def test_a_secret_is_not_shown_when_it_is_refused():
    ended = run_to_its_end(database_url="postgresql://u:s3cret@[h/y")

    assert (ended.returncode, "s3cret" in ended.stderr + ended.stdout) == (78, False)


def test_a_unix_socket_may_do_everything_and_is_not_everybodys(tmp_path, database, opa):
    path = tmp_path / "s"
    with serving(
        tmp_path, database_url=database, opa_url=opa.url, bind=f"unix:{path}", alive=False
    ) as sidecar:
        assert sidecar.until(path.exists)

        def scraped():
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(5)
                connection.connect(str(path))
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                return connection.recv(100).startswith(b"HTTP/1.1 200")

        assert sidecar.until(scraped)
        assert oct(path.stat().st_mode & 0o777) == "0o770"


def test_tokens_are_wanted_once_there_are_some(tmp_path, database, opa):
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("backend", ["authorize"], "t") + "\n")
    with serving(tmp_path, database_url=database, opa_url=opa.url, tokens=tokens) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        body = QUESTION

        assert sidecar.request("POST", "/v1/authorize", body)[0] == 401
        assert sidecar.request("POST", "/v1/authorize", body, headers={"Authorization": "Bearer t"})[0] == 200
        assert sidecar.request("GET", "/metrics", headers={"Authorization": "Bearer t"})[0] == 403
        assert "Bearer" not in sidecar.said


def test_all_workers_count_together(tmp_path, database, opa):
    tokens = tmp_path / "tokens"
    tokens.write_text(token_line("all", ["authorize", "audit"], "t") + "\n")
    headers = {"Authorization": "Bearer t"}
    with serving(
        tmp_path, database_url=database, opa_url=opa.url, tokens=tokens, deadline_ms=5_000
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        for _ in range(40):
            assert sidecar.request("POST", "/v1/authorize", QUESTION, headers=headers)[0] == 200

        def counted():
            text = sidecar.request("GET", "/metrics", headers=headers)[1]
            return [
                float(line.split()[-1])
                for line in text.splitlines()
                if line.startswith(b'sidecar_decisions_total{engine="opa",reason="granted"')
            ]

        assert sidecar.until(lambda: counted() == [40], within_s=5)


class Load:
    """Callers that ask without a pause over kept connections; *lost* are the requests without an answer."""

    def __init__(self, sidecar, callers=4):
        self.statuses = []
        self.lost = []
        self._stop = Event()
        self._sidecar = sidecar
        self._threads = [Thread(target=self._ask) for _ in range(callers)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self._sidecar.port, timeout=10)
        with closing(connection):
            while not self._stop.is_set():
                try:
                    if connection.sock is None:
                        connection.connect()
                except ConnectionRefusedError:  # it does not listen any more: nothing was asked
                    return
                try:
                    connection.request("POST", "/v1/authorize", BODY, {"Content-Type": "application/json"})
                    response = connection.getresponse()  # hangs up by itself after "Connection: close"
                    response.read()
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(repr(error))
                    connection.close()
                else:
                    self.statuses.append(response.status)


def test_a_stop_finishes_what_has_begun(tmp_path, database, opa):
    with serving(tmp_path, database_url=database, opa_url=opa.url, deadline_ms=5_000) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        with Load(sidecar) as load:
            sleep(1)
            sidecar.signal(signal.SIGTERM)
            sidecar.process.wait(15)

    assert (set(load.statuses), load.lost) == ({200}, [])
    assert sidecar.process.returncode == 0
    assert "Traceback" not in sidecar.said


def test_a_reload_takes_up_new_plans_and_loses_no_request(tmp_path, fresh_database_url, compiled, opa):
    plans = tmp_path / "plans.yaml"
    shutil.copy(shipped("plans.yaml"), plans)
    settings = {"database_url": fresh_database_url, "opa_url": opa.url, "plans": plans, "deadline_ms": 5_000}
    with serving(tmp_path, **settings) as sidecar:
        assert sidecar.until(sidecar.is_warm)
        plans.write_text(plans.read_text().replace("price: 149", "price: 150"))
        new = compiled_at(plans, shipped("policies")).revision
        with Load(sidecar) as load:
            sleep(0.5)
            sidecar.signal(signal.SIGHUP)
            sleep(1)
            assert sidecar.ask()[1]["policy_revision"] == compiled.revision  # OPA has not followed yet
            opa.revision = new
            try:
                followed = sidecar.until(lambda: sidecar.ask()[1].get("policy_revision") == new, within_s=20)
                settled = sidecar.until(lambda: "reloaded: revision" in sidecar.said)
                sleep(0.5)
            finally:
                opa.revision = compiled.revision

    assert (followed, settled) == (True, True)
    assert (set(load.statuses), load.lost) == ({200}, [])


def test_after_a_reload_there_is_another_one(tmp_path, database, opa):
    """The workers of the first generation have ended by then, and taken nothing with them."""
    with serving(tmp_path, database_url=database, opa_url=opa.url, workers=1) as sidecar:
        for times in (1, 2):
            sidecar.signal(signal.SIGHUP)

            assert sidecar.until(lambda times=times: sidecar.said.count("reloaded: revision") == times)
        assert sidecar.until(sidecar.is_ready)
        assert "Unhandled exception" not in sidecar.said


def test_a_reload_with_a_mistake_changes_nothing(tmp_path, database, compiled, opa):
    plans = tmp_path / "plans.yaml"
    shutil.copy(shipped("plans.yaml"), plans)
    with serving(tmp_path, database_url=database, opa_url=opa.url, plans=plans) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        plans.write_text(plans.read_text().replace("extends: starter", "extends: startr"))

        sidecar.signal(signal.SIGHUP)

        assert sidecar.until(lambda: "not reloaded" in sidecar.said)
        assert "startr" in sidecar.said
        assert "Traceback" not in sidecar.said
        assert sidecar.ask()[1]["policy_revision"] == compiled.revision


def test_a_worker_that_dies_is_replaced_by_one_of_the_same_revision(tmp_path, database, compiled, opa):
    plans = tmp_path / "plans.yaml"
    shutil.copy(shipped("plans.yaml"), plans)
    with serving(tmp_path, database_url=database, opa_url=opa.url, plans=plans, workers=1) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        plans.write_text("nonsense")
        [worker] = [
            line.split("[")[1].split("]")[0] for line in sidecar.said.splitlines() if "ready: rev" in line
        ]

        os.kill(int(worker), signal.SIGKILL)

        assert sidecar.until(lambda: sidecar.said.count("ready: revision") == 2)
        assert sidecar.until(lambda: sidecar.ask()[0] == 200)
        assert sidecar.ask()[1]["policy_revision"] == compiled.revision


def test_nothing_is_left_behind(tmp_path, database, opa, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    with serving(tmp_path, database_url=database, opa_url=opa.url) as sidecar:
        assert sidecar.until(lambda: list(folder.glob("sidecar-*/metrics")))

    assert list(folder.iterdir()) == []
