"""The manifests of deploy/kubernetes as they are, and as kustomize builds them."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent.parent
KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = ("service", "beside")
NOT_OF_KUBERNETES = {"kustomization.yaml", "opa.yaml"}
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "ops-bin")  # where .ci/run puts it

Manifest = dict[str, Any]


def plain() -> list[Path]:
    """The files that `kubectl apply -f` would take."""
    return sorted(
        path
        for path in KUBERNETES.rglob("*.yaml")
        if path.name not in NOT_OF_KUBERNETES and not path.name.endswith(".patch.yaml")
    )


@cache
def built(overlay: str) -> tuple[Manifest, ...]:
    """Skips where there is no kustomize; with --require-servers a skip is a failure."""
    found = shutil.which("kustomize") or shutil.which("kustomize", path=CACHE)
    if found is None:
        pytest.skip("needs kustomize on the PATH or in ~/.cache/ops-bin: see .ci/run")
    ran = subprocess.run(
        [found, "build", KUBERNETES / "overlays" / overlay],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""  # a warning of what a later version no longer takes
    return tuple(yaml.safe_load_all(ran.stdout))


def of_kind(overlay: str, kind: str) -> list[Manifest]:
    return [each for each in built(overlay) if each["kind"] == kind]


def one(overlay: str, kind: str) -> Manifest:
    [found] = of_kind(overlay, kind)
    return found


def templates(overlay: str) -> Iterator[tuple[str, Manifest]]:
    """The name of each thing that makes pods, and their template."""
    for each in built(overlay):
        name, spec = each["metadata"]["name"], each.get("spec", {})
        if each["kind"] in {"Deployment", "Job"}:
            yield name, spec["template"]
        elif each["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]


def containers_of(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def server_pod(overlay: str) -> Manifest:
    pod: Manifest = one(overlay, "Deployment")["spec"]["template"]["spec"]
    return pod


def container(overlay: str, name: str) -> Manifest:
    [found] = [each for each in containers_of(server_pod(overlay)) if each["name"] == name]
    return found


def environment(of: Manifest) -> dict[str, str]:
    """A value that comes from a secret is "secret NAME KEY"."""
    return {
        each["name"]: each["value"]
        if "value" in each
        else "secret {name} {key}".format(**each["valueFrom"]["secretKeyRef"])
        for each in of.get("env", [])
    }
