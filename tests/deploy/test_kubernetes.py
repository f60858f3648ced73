"""deploy/kubernetes: valid, without privileges, and of one mind with the settings and with itself."""

from __future__ import annotations

import re
from copy import deepcopy

import kubernetes_validate
import pytest
import yaml
from click import Context

from sidecar.cli import commands
from sidecar.settings import Settings
from tests.deploy.manifests import (
    KUBERNETES,
    OVERLAYS,
    ROOT,
    built,
    container,
    containers_of,
    environment,
    of_kind,
    one,
    plain,
    server_pod,
    templates,
)

OLDEST = "1.29"  # the first with native sidecars by default
VERSIONS = (OLDEST, kubernetes_validate.latest_version())
OPA = yaml.safe_load((KUBERNETES / "base/opa.yaml").read_text())
PAGE = (ROOT / "docs/operations/kubernetes.md").read_text()

of_each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", plain(), ids=lambda path: str(path.relative_to(KUBERNETES)))
def test_a_plain_manifest_is_one_that_kubernetes_takes(path, version):
    for manifest in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@of_each_overlay
def test_what_kustomize_builds_is_what_kubernetes_takes(overlay, version):
    assert {each["kind"] for each in built(overlay)} >= {
        "Deployment",
        "Job",
        "CronJob",
        "PodDisruptionBudget",
    }
    for manifest in built(overlay):
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_would_be_noticed():
    wrong = deepcopy(one("service", "Deployment"))
    wrong["spec"]["template"]["spec"]["terminationGraceSeconds"] = 25

    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(wrong, VERSIONS[-1], strict=True)


@of_each_overlay
def test_the_server_is_given_settings_that_there_are(overlay):
    given = environment(container(overlay, "sidecar"))
    given["SIDECAR_DATABASE_URL"] = "postgresql://from-the-secret"

    settings = Settings.from_environ(given)

    assert settings.reload == "auto"
    assert settings.tokens


@of_each_overlay
def test_every_job_runs_a_command_that_takes_its_variables(overlay):
    jobs = {}
    for _, template in templates(overlay):
        for each in template["spec"]["containers"]:
            if each["image"].startswith("registry.example.com/policy-sidecar:") and each["args"] != ["serve"]:
                jobs[each["args"][0]] = each

    assert set(jobs) == {"migrate", "tidy", "recount"}
    for name, each in jobs.items():
        command = commands.get_command(Context(commands), name)
        assert command
        taken = {option.envvar for option in command.params} | {"SIDECAR_PLANS", "SIDECAR_POLICIES"}
        assert set(environment(each)) <= taken
        assert environment(each)["SIDECAR_DATABASE_URL"] == "secret sidecar-owner url"


@of_each_overlay
def test_the_ports_agree(overlay):
    sidecar, opa = container(overlay, "sidecar"), container(overlay, "opa")
    given = environment(sidecar)
    port = int(given["SIDECAR_BIND"].rpartition(":")[2])
    arguments = dict(each.removeprefix("--").split("=") for each in opa["args"] if "=" in each)

    assert sidecar["ports"] == [{"name": "sidecar-http", "containerPort": port}]
    assert OPA["services"]["sidecar"]["url"] == f"http://127.0.0.1:{port}"
    assert given["SIDECAR_OPA_URL"] == f"http://{arguments['addr']}"
    assert arguments["diagnostic-addr"] == f"0.0.0.0:{opa['ports'][0]['containerPort']}"
    for each in containers_of(server_pod(overlay)):
        ports = {port["name"] for port in each["ports"]}
        probes = [probe["httpGet"]["port"] for name, probe in each.items() if name.endswith("Probe")]
        assert set(probes) <= ports
    for service in of_kind(overlay, "Service"):
        assert service["spec"]["ports"][0]["targetPort"] == "sidecar-http"
        assert service["spec"]["ports"][0]["port"] == port


@of_each_overlay
def test_kubernetes_waits_for_the_drain_and_the_grace(overlay):
    settings = environment(container(overlay, "sidecar"))
    wanted = int(settings["SIDECAR_DRAIN_S"]) + int(settings["SIDECAR_GRACE_S"]) + 5

    assert server_pod(overlay)["terminationGracePeriodSeconds"] == wanted
    assert [each for each in containers_of(server_pod(overlay)) if "lifecycle" in each] == []


def test_the_drain_is_longer_than_kubernetes_takes_to_see_it():
    sidecar = container("service", "sidecar")
    probe = sidecar["readinessProbe"]

    assert int(environment(sidecar)["SIDECAR_DRAIN_S"]) > probe["periodSeconds"] * probe["failureThreshold"]


@of_each_overlay
def test_a_probe_asks_what_it_is_for(overlay):
    sidecar, opa = container(overlay, "sidecar"), container(overlay, "opa")

    assert sidecar["readinessProbe"]["httpGet"]["path"] == "/readyz?exclude=database"
    assert sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert sidecar["startupProbe"]["httpGet"]["path"] == "/healthz"
    assert "readinessProbe" not in opa  # its outage takes no sidecar out of service


@of_each_overlay
def test_no_pod_has_a_privilege(overlay):
    for name, template in templates(overlay):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["runAsUser"] >= 10_000, name
        assert pod["securityContext"]["runAsGroup"] >= 10_000, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod), name
        for each in containers_of(pod):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, (name, each["name"])


@of_each_overlay
def test_every_container_has_its_share_and_no_more(overlay):
    for _, template in templates(overlay):
        for each in containers_of(template["spec"]):
            assert set(each["resources"]["requests"]) == {"cpu", "memory"}
            assert set(each["resources"]["limits"]) == {"cpu", "memory"}


@of_each_overlay
def test_only_an_empty_folder_is_written_to(overlay):
    for name, template in templates(overlay):
        volumes = {each.pop("name"): each for each in deepcopy(template["spec"].get("volumes", []))}
        for each in containers_of(template["spec"]):
            for mount in each.get("volumeMounts", []):
                kind = next(iter(volumes[mount["name"]]))
                assert kind in {"emptyDir", "configMap", "secret"}, name
                assert mount.get("readOnly", False) is (kind != "emptyDir"), (name, mount)
    opa = container(overlay, "opa")["volumeMounts"]
    assert OPA["bundles"]["authz"]["persist"] is True
    assert OPA["persistence_directory"] in {each["mountPath"] for each in opa if not each.get("readOnly")}


@of_each_overlay
def test_every_file_that_is_named_is_mounted(overlay):
    token = OPA["services"]["sidecar"]["credentials"]["bearer"]["token_path"]
    config = [each.partition("=")[2] for each in container(overlay, "opa")["args"] if "config-file" in each]
    for _, template in templates(overlay):
        for each in containers_of(template["spec"]):
            files = [value for value in environment(each).values() if value.startswith("/")]
            if each["name"] == "opa":
                files += [token, *config]
            folders = tuple(mount["mountPath"] + "/" for mount in each.get("volumeMounts", []))
            assert [file for file in files if not file.startswith(folders)] == []


@of_each_overlay
def test_a_service_and_a_budget_are_about_the_servers_alone(overlay):
    selectors = [one(overlay, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in of_kind(overlay, "Service")]
    for selector in selectors:
        selected = [
            name
            for name, each in templates(overlay)
            if selector.items() <= each["metadata"]["labels"].items()
        ]
        assert selected == [one(overlay, "Deployment")["metadata"]["name"]]


@of_each_overlay
def test_no_secret_stands_in_a_manifest(overlay):
    assert of_kind(overlay, "Secret") == []
    for _, template in templates(overlay):
        for each in containers_of(template["spec"]):
            assert [value for value in environment(each).values() if "://" in value and "@" in value] == []


@of_each_overlay
def test_the_page_makes_every_secret_and_file_that_a_pod_refers_to(overlay):
    made = set(re.findall(r"kubectl (?:-n \S+ )?create (?:secret generic|configmap) (\S+)", PAGE))
    made |= {each["metadata"]["name"] for each in of_kind(overlay, "ConfigMap")}
    wanted = set()
    for _, template in templates(overlay):
        for volume in template["spec"].get("volumes", []):
            wanted |= {volume.get("configMap", {}).get("name"), volume.get("secret", {}).get("secretName")}
        for each in containers_of(template["spec"]):
            wanted |= {
                value.split()[1] for value in environment(each).values() if value.startswith("secret ")
            }

    assert wanted - {None} <= made


def test_beside_an_application_both_are_native_sidecars():
    pod = server_pod("beside")

    assert [(each["name"], each["restartPolicy"]) for each in pod["initContainers"]] == [
        ("opa", "Always"),
        ("sidecar", "Always"),
    ]
    assert [each["name"] for each in pod["containers"]] == ["application"]
    assert of_kind("beside", "Service") == []  # the application has its own


@of_each_overlay
def test_kubernetes_runs_the_opa_that_is_tested(overlay):
    version = re.search(r"^version=(.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)

    assert version
    assert container(overlay, "opa")["image"] == f"openpolicyagent/opa:{version[1]}-static"
