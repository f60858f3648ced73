"""Another domain's policy from a folder: what is read of it, what is refused, what OPA makes of the same."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sidecar.engines.embedded import EmbeddedEngine
from sidecar.errors import ConfigError
from sidecar.rego.authzen import authzen_policy_at, findings_at
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.api.authzen_server import SCENARIOS
from tests.servers import opa
from tests.values import FAR_AWAY

GOOD = "package authzen\n\ndefault decision := false\n"


def a_folder(tmp_path, **files):
    """*files* by path, with __ for a slash and _DOT_ for a dot."""
    for name, text in ({"policy_DOT_rego": GOOD} | files).items():
        path = tmp_path / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


def codes(folder):
    found = findings_at(folder)
    if found:
        with pytest.raises(ConfigError) as refused:
            authzen_policy_at(folder)
        assert len(refused.value.problems) == len(found)
    return [finding.code for finding in found]


def test_a_folder_is_the_package_and_the_folders_in_it_are_those_below(tmp_path):
    folder = a_folder(
        tmp_path,
        subjects_DOT_rego="package authzen\n\nsubjects contains 1\n",
        deep__x_DOT_rego="package authzen.deep\n\nallowed := 1\n",
        policy_test_DOT_rego="package authzen_test\n\ntest_x if http.send({})\n",
    )

    policy = authzen_policy_at(folder)

    assert codes(folder) == []
    assert set(policy.rules) == {"decision", "subjects"}
    assert sorted(policy.modules) == [
        "authz/authzen/answers.rego",
        "authzen/deep/x.rego",
        "authzen/policy.rego",
        "authzen/subjects.rego",
    ]


def test_data_stand_where_their_folder_is_whatever_their_file_is_called(tmp_path):
    folder = a_folder(
        tmp_path,
        data_DOT_json='{"users": {"a": 1.5, "b": null}, "more": {"x": 1}}',
        other_DOT_yaml="more: {y: [true, text]}\n",
        deep__er__z_DOT_yml="v: 1\n",
        _DOT_hidden_DOT_json="not JSON",
        readme_DOT_txt="no data",
    )

    assert json.loads(authzen_policy_at(folder).data) == {
        "authzen": {
            "users": {"a": 1.5, "b": None},
            "more": {"x": 1, "y": [True, "text"]},
            "deep": {"er": {"v": 1}},
        }
    }


REFUSED = {
    "no decision": ({"policy_DOT_rego": "package authzen\n\nallow := true\n"}, ["no_decision"]),
    "a decision of another package": (
        {
            "policy_DOT_rego": "package authzen\n",
            "deep__x_DOT_rego": "package authzen.deep\n\ndecision := 1\n",
        },
        ["no_decision"],
    ),
    "another package": ({"policy_DOT_rego": "package other\n\ndecision := 1\n"}, ["package_not_its_folder"]),
    "our package": ({"x_DOT_rego": "package authz\n\ndenials contains 1\n"}, ["package_not_its_folder"]),
    "a clock": ({"x_DOT_rego": "package authzen\n\nnow := time.now_ns()\n"}, ["builtin_not_allowed"]),
    "a network": ({"x_DOT_rego": "package authzen\n\nx := http.send({})\n"}, ["builtin_not_allowed"]),
    "our data": ({"x_DOT_rego": "package authzen\n\nx := data.authz.plans\n"}, ["unknown_data"]),
    "a field that nobody sends": (
        {"x_DOT_rego": "package authzen\n\nx := input.resource.id\n\ny := input.user\n"},
        ["unknown_input"],
    ),
    "a number without an end": ({"data_DOT_json": '{"x": 1e400}'}, ["data_no_json"]),
    "half of a pair": ({"data_DOT_json": '{"x": "\\ud800"}'}, ["data_no_json"]),
    "no JSON": ({"data_DOT_json": "{"}, ["data_no_json"]),
    "no UTF-8": ({"data_DOT_json": b"\xff"}, ["data_no_json"]),
    "no number": ({"data_DOT_json": '{"x": NaN}'}, ["data_no_json"]),
    "a name twice": ({"data_DOT_json": '{"x": {"a": 1, "a": 2}}'}, ["data_no_json"]),
    "no YAML": ({"data_DOT_yaml": "a: &x 1\nb: *x\n"}, ["yaml_anchor", "yaml_alias"]),
    "an empty YAML": ({"data_DOT_yaml": ""}, ["empty_file"]),
    "a list": ({"data_DOT_json": "[]"}, ["data_no_object"]),
    "two that differ": ({"a_DOT_json": '{"x": {"y": 1}}', "b_DOT_json": '{"x": {"y": 2}}'}, ["data_twice"]),
    "data in place of a rule": ({"data_DOT_json": '{"decision": true}'}, ["data_hides_rule"]),
    "several": (
        {"policy_DOT_rego": "package authzen\n\nx := rand.intn(1, 2)\n", "data_DOT_json": "7"},
        ["builtin_not_allowed", "no_decision", "data_no_object"],
    ),
}


@pytest.mark.parametrize(("files", "expected"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_with_every_problem(tmp_path, files, expected):
    assert codes(a_folder(tmp_path, **files)) == expected


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such folder"):
        authzen_policy_at(tmp_path / "nowhere")


def test_a_file_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    folder = a_folder(tmp_path, data_DOT_json="{}")
    monkeypatch.setattr(Path, "read_bytes", refused)  # root, as whom tests may run, reads everything

    with pytest.raises(ConfigError, match="cannot be read"):
        authzen_policy_at(folder)


def test_the_revision_is_that_of_policies_and_data_alone(tmp_path):
    first = authzen_policy_at(a_folder(tmp_path / "a", x_DOT_json='{"a": 1}', readme_DOT_md="x")).revision
    same = authzen_policy_at(a_folder(tmp_path / "b", y_DOT_yaml="a: 1\n")).revision
    other_data = authzen_policy_at(a_folder(tmp_path / "c", x_DOT_json='{"a": 2}')).revision
    other_rules = authzen_policy_at(
        a_folder(tmp_path / "d", x_DOT_json='{"a": 1}', policy_DOT_rego=GOOD + "\n")
    )

    assert first == same
    assert len({first, other_data, other_rules.revision}) == 3


def test_the_bundle_gains_a_root_and_nothing_else_changes(tmp_path):
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    policy = authzen_policy_at(a_folder(tmp_path, data_DOT_json='{"a": 1}'))

    def files(content) -> dict[str, bytes]:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            return {entry.name: held.read() for entry in archive if (held := archive.extractfile(entry))}

    alone, together = files(bundle(compiled)), files(bundle(compiled, policy))

    assert json.loads(together["/.manifest"]) == {
        "revision": f"{compiled.revision}-{policy.revision}",
        "roots": ["authz", "custom", "authzen"],
        "rego_version": 1,
    }
    assert json.loads(together["/data.json"]) == json.loads(alone["/data.json"]) | {"authzen": {"a": 1}}
    own = set(alone) - {"/.manifest", "/data.json"}
    assert {name: together[name] for name in own} == {name: alone[name] for name in own}
    assert set(together) - set(alone) == {"/authz/authzen/answers.rego", "/authzen/policy.rego"}
    assert bundle(compiled, policy) == bundle(compiled, policy)


INPUTS = [
    {},
    {
        "subject": {"type": "user", "id": "bob"},
        "action": {"name": "write"},
        "resource": {"type": "record", "id": "record-2"},
    },
    {
        "subject": {"type": "user", "id": "alice"},
        "action": {"name": "delete"},
        "resource": {"type": "record", "id": "101"},
    },
    {
        "subject": {"type": "identity", "id": "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs"},
        "action": {"name": "PUT"},
        "resource": {"type": "route", "id": "/todos/{todoId}"},
    },
]


@pytest.mark.opa
@pytest.mark.parametrize("scenario", ["certification", "todo", "search", "gateway", "idp"])
def test_the_embedded_engine_and_plain_opa_say_the_same_of_the_same_folder(scenario):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    folder = SCENARIOS / scenario
    policy = authzen_policy_at(folder)
    engine = EmbeddedEngine(
        policy.modules, policy.data, revision=policy.revision, rules=(*policy.rules.values(),)
    )

    for given in INPUTS:
        rules = json.dumps(sorted(policy.rules))
        query = f"{{rule: answer | some rule in {rules}; answer := data.authzen[rule]}}"
        plain = opa(
            "eval", "-d", f"authzen:{folder}", "--stdin-input", "--format=raw", query, stdin=json.dumps(given)
        )

        ours: dict[str, Any] = {
            rule: engine.document(asked, json.dumps(given).encode(), deadline=FAR_AWAY)
            for rule, asked in policy.rules.items()
        }
        assert plain.returncode == 0, plain.stderr
        assert {rule: each["answer"] for rule, each in ours.items()} == json.loads(plain.stdout)
        assert {each["revision"] for each in ours.values()} == {policy.revision}


@pytest.mark.opa
@pytest.mark.parametrize("scenario", ["certification", "todo", "search", "gateway", "idp"])
def test_a_scenario_is_written_as_opa_would_write_it(scenario):
    assert opa("fmt", "--fail", "--list", SCENARIOS / scenario).stdout == ""
    assert opa("check", "--strict", SCENARIOS / scenario / "policy.rego").returncode == 0
