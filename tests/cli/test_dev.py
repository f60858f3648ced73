"""The first five minutes, as a newcomer has them: the real command, and whatever goes wrong with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import jwt
import psycopg
import pytest
from click.testing import CliRunner

from sidecar.cli.dev import command
from sidecar.errors import Interrupted
from tests.effort import borrow_verdicts, lend_verdicts
from tests.servers import free_port, opa_binary

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

ROOT = Path(__file__).parent.parent.parent
NOBODY = 65_534
SECRET = "dev-secret-dev-secret-dev-secret-32"  # noqa: S105 - of the design
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")
AS_ROOT = os.geteuid() == 0
OUR_PATH = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
READY_WITHIN_S = 60
GONE_WITHIN_S = 20
_direct = build_opener(ProxyHandler({}))


@cache
def nobody_s_python() -> str | None:
    """A Python that an ordinary user can run this clone with: ours may lie where only root passes."""
    # setpriv still has root's rights when it starts Python; only what that starts in turn has lost them.
    program = (
        'import psycopg, sidecar, subprocess, sys; subprocess.run([sys.executable, "-c", ""], check=True)'
    )
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        command = [*AS_NOBODY, python, "-c", program]
        environ = {"PYTHONPATH": OUR_PATH, "PYTHONDONTWRITEBYTECODE": "1"}
        if not subprocess.run(command, env=environ, capture_output=True, check=False).returncode:
            return python
    return None


CLOSED_TO_OTHERS = AS_ROOT and nobody_s_python() is None
CLOSED = "this clone, or its Python, lies where no other user may pass"


class Dev:
    """A running `sidecar dev`; *printed* is what it said until it was ready."""

    def __init__(self, data_dir: Path, *options: str, port: int | None = None, as_nobody: bool = False):
        self.port = port or free_port()
        self.data_dir = data_dir
        python = (nobody_s_python() or "") if as_nobody else sys.executable
        command = [python, "-m", "sidecar", "dev", "--port", str(self.port), "--data-dir", str(data_dir)]
        if as_nobody:
            command = [*AS_NOBODY, *command]
        environ = {name: value for name, value in os.environ.items() if not name.startswith("SIDECAR_")}
        if port is None and not as_nobody:
            lend_verdicts(data_dir)
        self.process = subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": OUR_PATH},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.printed = ""

    def wait_until_ready(self) -> Dev:
        assert self.process.stderr
        for line in self.process.stderr:
            self.printed += line
            if line.startswith("Ctrl-C ends it"):
                borrow_verdicts(self.data_dir)
                return self
        raise AssertionError(f"it ended with {self.process.wait()}: {self.printed}")

    def rest(self) -> str:
        """What it says from here on, once it has ended."""
        return self.process.communicate(timeout=GONE_WITHIN_S)[1]

    def ask(self, **question: str) -> Any:
        return self.post("/v1/authorize", question)[1]

    def post(
        self, path: str, body: object, *, authorization: str | None = "Bearer dev-token"
    ) -> tuple[int, Any]:
        request = Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": authorization} if authorization else {}),
        )
        try:
            with _direct.open(request, timeout=10) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def outage(self, *, within_s: float) -> Any:
        """The first problem that it answers: a session may outlive its postmaster for a moment."""
        deadline = time.monotonic() + within_s
        while "allow" in (answer := self.ask(user="adam", workspace="acme", action="platform.use")):
            assert time.monotonic() < deadline, answer
        return answer

    @property
    def database_url(self) -> str:
        return (self.data_dir / "database.url").read_text().strip()

    def survivors(self) -> list[str]:
        """The command lines of processes that know of its data folder or its port, itself not among them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
                environ = (folder / "environ").read_bytes().decode(errors="replace")
            except OSError:
                continue
            ours = str(self.data_dir) in " ".join(words) or f"SIDECAR_BIND=127.0.0.1:{self.port}\0" in environ
            if ours and int(folder.name) not in {self.process.pid, os.getpid()}:
                found.append(" ".join(words))
        return found

    def wait_until_alone(self) -> list[str]:
        deadline = time.monotonic() + GONE_WITHIN_S
        while self.survivors() and time.monotonic() < deadline:
            time.sleep(0.05)
        return self.survivors()


@contextmanager
def dev(data_dir: Path, *options: str, beside_another: bool = False, **more):
    running = Dev(data_dir, *options, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()
        assert beside_another or running.wait_until_alone() == []


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "dev"


def line_of_failure(data_dir: Path, *options: str, **more) -> str:
    """What it says when it does not start."""
    with dev(data_dir, *options, **more) as refused:
        said = refused.rest()

    assert refused.process.returncode not in {0, None}
    assert "Traceback" not in said
    lines: list[str] = said.strip().splitlines()
    return lines[-1]


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_leaves_nothing_running_and_keeps_the_data(data_dir, number):
    with dev(data_dir) as first:
        first.wait_until_ready()
        with psycopg.connect(first.database_url, autocommit=True) as connection:
            connection.execute("UPDATE authz.workspaces SET name = 'Kept' WHERE slug = 'acme'")
        first.process.send_signal(number)
        said = first.rest()

    assert first.process.returncode == 0
    assert said.strip().splitlines()[-1] == "stopped; the data are kept"
    assert "Traceback" not in said
    if number != signal.SIGINT:
        return
    with dev(data_dir) as second, psycopg.connect(second.wait_until_ready().database_url) as connection:
        name = connection.execute("SELECT name FROM authz.workspaces WHERE slug = 'acme'").fetchone()
        assert name == ("Kept",)
        assert "once" not in second.printed


def test_the_printed_requests_answer_what_is_printed(data_dir):
    with dev(data_dir) as running:
        printed = running.wait_until_ready().printed
        requests = re.findall(r"^  (curl .*?\n.*?)\n  → (\{.*\})$", printed, re.MULTILINE)
        # As they are pasted: by a shell, the line that goes on included.
        pasted = [
            subprocess.run(["sh", "-c", command], capture_output=True, check=True) for command, _ in requests
        ]
        answers = [json.loads(each.stdout) for each in pasted]

    promised = [json.loads(answer) for _, answer in requests]
    assert [answer["status"] for answer in answers] == [200, 403, 402]
    assert [
        {name: answer.get(name) for name in said} for answer, said in zip(answers, promised, strict=True)
    ] == promised
    assert [offer["plan"] for offer in answers[2]["upgrade"]] == ["pro", "team"]


def test_only_we_may_read_the_superuser_s_url_and_only_this_machine_and_its_pages_may_ask(data_dir):
    with dev(data_dir) as running:
        running.wait_until_ready()
        mode = stat.S_IMODE((data_dir / "database.url").stat().st_mode)
        with socket.socket() as outside:
            reached = outside.connect_ex((_address_of_this_machine(), running.port))
        named = [
            _named_origin(running.port, origin)
            for origin in ("http://localhost:5173", "http://127.0.0.1:1", "https://app.example.com")
        ]

    assert oct(mode) == oct(0o600)
    assert reached != 0
    assert named == ["http://localhost:5173", "http://127.0.0.1:1", None]


def _named_origin(port, origin):
    """The origin whose pages may read GET /plans, by the answer to *origin*."""
    asked = Request(f"http://127.0.0.1:{port}/plans", headers={"Origin": origin})
    with build_opener(ProxyHandler({})).open(asked, timeout=10) as answer:
        return answer.headers["Access-Control-Allow-Origin"]


def _address_of_this_machine() -> str:
    """Of the network if there is one, else another loopback address: it must not listen on all of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            address: str = probe.getsockname()[0]
        except OSError:
            return "127.0.0.2"
    return address if not address.startswith("127.0.0.1") else "127.0.0.2"


def test_kill_9_of_the_command_takes_everything_with_it_and_a_second_start_recovers(data_dir):
    with dev(data_dir) as first:
        first.wait_until_ready()
        first.process.kill()
        first.process.wait()
        assert first.wait_until_alone() == []

    with dev(data_dir) as second:
        assert second.wait_until_ready().ask(user="adam", workspace="acme", action="platform.use")["allow"]


@pytest.mark.long
def test_kill_9_of_postgres_is_an_outage_and_a_second_start_recovers(data_dir):
    with dev(data_dir) as first:
        first.wait_until_ready()
        postmaster = int((data_dir / "postgres/cluster/postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        outage = first.outage(within_s=GONE_WITHIN_S)
        first.process.send_signal(signal.SIGINT)
        first.rest()

    assert (outage["status"], outage["code"]) == (503, "facts_unavailable")
    with dev(data_dir) as second:
        assert second.wait_until_ready().ask(user="adam", workspace="acme", action="platform.use")["allow"]


@pytest.mark.long
def test_a_pid_file_that_names_a_stranger_s_process_is_not_believed(data_dir):
    with dev(data_dir) as first:
        first.wait_until_ready()
        pid_file = data_dir / "postgres/cluster/postmaster.pid"
        left = pid_file.read_text()
        first.process.send_signal(signal.SIGINT)
        first.rest()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *left.splitlines()[1:]]) + "\n")

        with dev(data_dir) as second:
            second.wait_until_ready()

        assert stranger.poll() is None
        stranger.kill()


def test_half_a_cluster_is_made_anew(data_dir):
    (data_dir / "postgres/cluster.new").mkdir(parents=True)
    (data_dir / "postgres/cluster.new/PG_VERSION").write_text("18\n")

    with dev(data_dir) as running:
        running.wait_until_ready()


def test_a_second_one_on_the_same_folder_says_who_holds_it(data_dir):
    with dev(data_dir) as first:
        first.wait_until_ready()
        said = line_of_failure(data_dir, beside_another=True)

        assert said == (
            f"sidecar: {data_dir}/postgres is in use by process {first.process.pid}: stop it,"
            " or choose another folder with --data-dir"
        )


def test_a_taken_port_is_one_line_and_nothing_is_begun(data_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        said = line_of_failure(data_dir, port=port)

    assert said == f"sidecar: port {port} cannot be had: Address already in use; choose another with --port"
    assert not data_dir.exists()


@pytest.mark.skipif(CLOSED_TO_OTHERS, reason=CLOSED)
def test_a_read_only_folder_is_one_line(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o555)
    if AS_ROOT:
        tmp_path.chmod(0o755)
        for parent in tmp_path.parents[:3]:
            parent.chmod(0o755)

    said = line_of_failure(folder / "dev", as_nobody=AS_ROOT)

    assert said == (
        f"sidecar: {folder}/dev/postgres cannot be written: Permission denied;"
        " choose another folder with --data-dir"
    )


def test_a_folder_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").touch()

    said = line_of_failure(tmp_path / "file" / "dev")

    assert said == (
        f"sidecar: {tmp_path}/file/dev/postgres cannot be written: Not a directory;"
        " choose another folder with --data-dir"
    )


@pytest.mark.skipif(not AS_ROOT, reason="the other tests run as an ordinary user already")
@pytest.mark.skipif(CLOSED_TO_OTHERS, reason=CLOSED)
def test_runs_as_an_ordinary_user_too(tmp_path):
    home = Path("/tmp") / f"sidecar-test-{os.getpid()}"  # noqa: S108 - pytest's folder is root's own
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY, NOBODY)
    try:
        with dev(home / "dev", as_nobody=True) as running:
            running.wait_until_ready()
            assert running.ask(user="adam", workspace="acme", action="platform.use")["allow"]
            owner = (home / "dev/postgres/cluster").stat().st_uid
    finally:
        shutil.rmtree(home)

    assert owner == NOBODY


@pytest.mark.skipif(not AS_ROOT, reason="only root has a home that the database's user may not pass through")
def test_as_root_it_runs_where_others_may_not_pass_and_opens_nothing(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)

    with dev(closed / "dev") as running:
        running.wait_until_ready()

    assert oct(stat.S_IMODE(closed.stat().st_mode)) == oct(0o700)


@pytest.mark.opa
def test_end_users_come_with_tokens_that_anybody_can_sign(data_dir):
    """By the secret that everybody knows, of any issuer, and trusted about an e-mail unless they deny it."""

    def ask(user, method, path, body=None, **claims):
        stated = {"sub": user, "email": f"{user}@example.com", "aud": "authenticated"} | claims
        token = jwt.encode(stated | {"exp": int(time.time()) + 600}, SECRET, "HS256")
        request = Request(
            f"http://127.0.0.1:{running.port}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        try:
            with _direct.open(request, timeout=10) as response:
                return response.status, json.load(response)
        except HTTPError as error:
            return error.code, json.load(error)

    with dev(data_dir) as running:
        running.wait_until_ready()
        invitation = {"email": "zoe@example.com", "role": "member"}
        status, invited = ask("olivia", "POST", "/workspaces/acme/invite", invitation)
        assert (status, stat.S_IMODE((data_dir / "jwt-secret").stat().st_mode)) == (201, 0o600)
        accept = ("POST", "/invitations/accept", {"token": invited["token"]})

        assert ask("zoe", *accept, email_verified=False)[0] == 404
        assert ask("zoe", *accept, aud="others")[0] == 401
        assert ask("zoe", *accept)[1]["slug"] == "acme"
        assert ask("newcomer", "GET", "/workspaces")[1]["workspaces"][0]["plan_tier"] == "starter"


def test_runs_on_a_real_opa_too(data_dir):
    opa_binary()
    with dev(data_dir, "--engine", "opa") as running:
        assert (
            running.wait_until_ready().ask(user="sam", workspace="solo", action="coaching.start")["status"]
            == 402
        )


def test_a_catalog_with_mistakes_is_told_line_by_line(data_dir, tmp_path):
    plans = tmp_path / "plans.yaml"
    plans.write_text((ROOT / "plans.yaml").read_text().replace("extends: starter", "extends: startr"))

    with dev(data_dir, "--plans", str(plans)) as refused:
        said = refused.rest()

    assert refused.process.returncode == 78
    assert 'plan "pro" extends "startr", which does not exist; did you mean "starter"?' in said


def test_a_world_of_one_s_own_is_loaded_once(data_dir, tmp_path):
    world = tmp_path / "world.yaml"
    world.write_text(
        "users: [{id: ann, email: ann@example.com}]\n"
        "workspaces: [{slug: anns, name: Ann's, plan: pro, owner: ann, usage: {minutes: 500}}]\n"
    )

    for _ in range(2):
        with dev(data_dir, "--world", str(world)) as running:
            answer = running.wait_until_ready().ask(user="ann", workspace="anns", action="recording.start")
            assert (answer["status"], answer["quota"]["minutes"]["used"]) == (402, 500)


@pytest.mark.parametrize("scenario", ["certification", "todo"])
def test_a_scenario_of_authzen_is_served_and_our_own_api_beside_it(data_dir, scenario):
    """The certification's to who has the dev token, however it is sent; the others also without one."""
    with dev(data_dir, "--authzen-scenario", scenario) as running:
        printed = running.wait_until_ready().printed
        asked = {
            "subject": {"type": "user", "id": "bob"},
            "action": {"name": "read"},
            "resource": {"type": "record", "id": "record-1"},
        }
        statuses = [
            running.post("/access/v1/evaluation", asked, authorization=shown)[0]
            for shown in ("Bearer dev-token", "dev-token", "undefined", "Bearer x", None)
        ]
        bare = running.post("/v1/authorize", {}, authorization="dev-token")
        refused = running.post("/v1/authorize", {}, authorization="undefined")
        ours = running.ask(user="adam", workspace="acme", action="platform.use")

    who = "whoever has the token dev-token" if scenario == "certification" else "anybody without a token"
    assert f"AuthZEN: http://127.0.0.1:{running.port}/access/v1/… answers {who} by " in printed
    assert statuses == [200, 200, 401, 401, 401 if scenario == "certification" else 200]
    assert (bare[0], refused[0]) == (401, 401)
    assert ours["allow"] is True


def test_an_installed_package_has_no_scenarios_and_says_so(data_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("sidecar.cli.dev.shipped", lambda name: tmp_path / name)

    ended = CliRunner().invoke(command, ["--authzen-scenario", "todo", "--data-dir", str(data_dir)])

    assert isinstance(ended.exception, Interrupted)
    assert "an installed package does not have" in str(ended.exception)


def test_a_policy_and_a_scenario_exclude_each_other(data_dir):
    options = ["--authzen-scenario", "todo", "--authzen-policy", "x", "--data-dir", str(data_dir)]

    ended = CliRunner().invoke(command, options)

    assert (ended.exit_code, "exclude each other" in ended.output) == (2, True)


OWN_PLANS = """version: 1
currency: EUR
default_plan: free
roles: {guest: , boss: {includes: guest}}
features: {export: {title: Export}}
meters: {calls: {kind: counter, per: day}}
plans:
  free: {price: 0, limits: {calls: 5}}
  full: {price: 9, features: [export], limits: {calls: 50}}
actions:
  call: {role: guest, takes: {calls: 1}}
  export: {role: boss, feature: export}
"""
OWN_WORLD = """workspaces:
  - {slug: north, plan: free, members: {ann: boss}}
  - {slug: south, plan: full, members: {bob: guest}}
"""


def examples_in(printed: str) -> list[tuple[str, Any, Any]]:
    """What each printed example says, asks and answers."""
    found = re.findall(r"^  # (.*)\n  curl .*\n.* -d '(.*)'\n  → (\{.*\})$", printed, re.MULTILINE)
    return [(says, json.loads(asked), json.loads(answer)) for says, asked, answer in found]


def test_with_a_world_and_plans_of_one_s_own_the_examples_are_true_there(data_dir, tmp_path):
    plans, world = tmp_path / "plans.yaml", tmp_path / "world.yaml"
    plans.write_text(OWN_PLANS)
    world.write_text(OWN_WORLD)

    with dev(data_dir, "--plans", str(plans), "--world", str(world)) as running:
        found = examples_in(running.wait_until_ready().printed)
        answers = [running.ask(**asked) for _, asked, _ in found]

    assert [(says, answer["reason"]) for says, _, answer in found] == [
        ("ann may do call in north", "granted"),
        ("bob is a stranger in north", "not_a_member"),
        ("ann may not do export in north", "feature_not_in_plan"),
    ]
    assert [answer["reason"] for answer in answers] == [answer["reason"] for _, _, answer in found]


@pytest.mark.long
def test_plans_that_the_demo_world_does_not_fit_start_with_an_empty_world(data_dir, tmp_path):
    plans = tmp_path / "plans.yaml"
    plans.write_text(OWN_PLANS)

    for _ in range(2):
        with dev(data_dir, "--plans", str(plans)) as running:
            printed = running.wait_until_ready().printed
            running.process.send_signal(signal.SIGINT)
            running.rest()

        assert "the demo world does not fit these plans" in printed
        [(says, _, answer)] = examples_in(printed)
        assert (says, answer["allow"]) == ("nobody is in a workspace yet: load some with --world", False)
