"""OpenFeature's own providers for backends, Python's and npm's, against the sidecar itself."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest

from sidecar.cli.dev import TOKEN
from tests.flags.document import Document, is_as_shown, printed, with_packages
from tests.node import passed, program
from tests.servers import free_port
from tests.serving.demo import the_demo

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture(scope="module")
def sidecar(database_url, tmp_path_factory):
    with the_demo(tmp_path_factory.mktemp("sidecar"), database_url) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def reader(sidecar, tmp_path_factory):
    """The folder of who has done what the document says."""
    folder = tmp_path_factory.mktemp("reader")
    document = Document({"8080": sidecar.port})
    document.write(folder)
    return document, folder


@pytest.mark.parametrize("run_by", ["curl", "python", "node"])
def test_what_the_document_has_run_prints_what_it_shows(reader, run_by):
    document, folder = reader
    if run_by == "node":
        with_packages(folder)
    if run_by == "python":
        pytest.importorskip("openfeature.contrib.provider.ofrep", reason="needs the extra `test`")

    [(command, shown)] = document.commands(f"{run_by} ")

    assert shown.strip()
    assert is_as_shown(said := printed(command, cwd=folder), shown), said


class Python:
    """A client of Python's provider; it answers with value, reason and what went wrong."""

    def __init__(self, port, token=TOKEN) -> None:
        api = pytest.importorskip("openfeature.api", reason="needs the extra `test`")
        ofrep = pytest.importorskip("openfeature.contrib.provider.ofrep", reason="needs the extra `test`")
        domain = f"at {port} {token} {uuid4()}"
        headers = {"Authorization": f"Bearer {token}"}
        provider = ofrep.OFREPProvider(f"http://127.0.0.1:{port}", headers_factory=lambda: headers, timeout=5)
        api.set_provider(provider, domain)
        self._context = pytest.importorskip("openfeature.evaluation_context").EvaluationContext
        self.client = api.get_client(domain)

    def ask(self, kind, key, default, context):
        attributes = {name: value for name, value in context.items() if name != "targetingKey"}
        details = getattr(self.client, f"get_{kind}_details")(
            key, default, self._context(context.get("targetingKey"), attributes)
        )
        code = details.error_code and details.error_code.value
        return [details.value, str(details.reason), details.variant, code, dict(details.flag_metadata)]


_NODE = """
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";

const { url, token, asked } = JSON.parse(process.argv[2]);
const headers = [["Authorization", `Bearer ${token}`]];
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: url, headers, timeoutMs: 5000 }));
const client = OpenFeature.getClient();
const told = [];
for (const [kind, key, byDefault, context] of asked) {
  const of = { boolean: "Boolean", string: "String", integer: "Number" }[kind];
  const details = await client[`get${of}Details`](key, byDefault, context);
  const { value, reason, variant = null, errorCode = null, flagMetadata } = details;
  told.push([value, reason, variant, errorCode, flagMetadata]);
}
console.log(JSON.stringify(told));
"""


def by_python(folder, port, token, asked):
    client = Python(port, token)
    return [client.ask(*each) for each in asked]


def by_node(folder, port, token, asked):
    if not (folder / "node_modules").exists():
        with_packages(folder)
    (folder / "ask.mjs").write_text(_NODE)
    question = json.dumps({"url": f"http://127.0.0.1:{port}", "token": token, "asked": asked})
    return json.loads(passed(program("node"), "ask.mjs", question, cwd=folder))


BY = pytest.mark.parametrize("told_by", [by_python, by_node], ids=["python", "node"])


def of(user, workspace, **more):
    return {"targetingKey": user, "workspace": workspace, **more}


@BY
def test_every_kind_of_flag_is_read_with_its_metadata(sidecar, tmp_path, told_by):
    piano = of("pia", "piano", email="pia@example.com", nested={"a": [1]})

    told = told_by(
        tmp_path,
        sidecar.port,
        TOKEN,
        [
            ["boolean", "video_avatar", False, piano],
            ["boolean", "team_sessions", True, piano],
            ["string", "plan", "", piano],
            ["string", "role", "", piano],
            ["integer", "limit:minutes", 0, piano],
            ["integer", "limit:scenarios", 0, piano],
        ],
    )

    revision = told[0][-1]["policy_revision"]
    assert [each[:4] for each in told] == [
        [True, "TARGETING_MATCH", "plan:pro", None],
        [False, "DISABLED", "plan:pro", None],
        ["pro", "TARGETING_MATCH", "plan:pro", None],
        ["owner", "TARGETING_MATCH", "role:owner", None],
        [500, "TARGETING_MATCH", "plan:pro", None],
        [-1, "TARGETING_MATCH", "plan:pro", None],
    ]
    assert [each[-1] for each in told] == [
        {"policy_revision": revision, "unlocked_by": ""},
        {"policy_revision": revision, "unlocked_by": "team"},
        {"policy_revision": revision},
        {"policy_revision": revision},
        {"policy_revision": revision, "unlimited": False},
        {"policy_revision": revision, "unlimited": True},
    ]


def test_limits_that_were_bought_or_overridden_are_told_by_one_flag_and_by_all(sidecar):
    path, context = "/v1/workspaces/zoe", {"context": of("zoe", "zoe")}
    bought = {"plan": "team", "status": "active", "seats": 25, "as_of": "2026-01-31T09:00:00Z"}
    assert sidecar.request("PUT", f"{path}/subscription", bought)[0] == 200
    told = []
    for limits in ({}, {"members": 30, "minutes": 7}):
        assert sidecar.request("PUT", f"{path}/overrides", {"limits": limits})[0] == 200
        _, one = sidecar.request("POST", "/ofrep/v1/evaluate/flags/limit:members", context)
        flags = sidecar.request("POST", "/ofrep/v1/evaluate/flags", context)[1]["flags"]
        [among_all] = [flag for flag in flags if flag["key"] == "limit:members"]
        [minutes] = [flag["value"] for flag in flags if flag["key"] == "limit:minutes"]
        assert one == among_all
        told.append((one["value"], one["variant"], minutes))

    assert told == [(25, "seats:25", 1000), (30, "override:30", 7)]


@BY
def test_a_stranger_has_no_feature_and_the_defaults_of_the_rest(sidecar, tmp_path, told_by):
    told = told_by(
        tmp_path,
        sidecar.port,
        TOKEN,
        [
            ["boolean", "video_avatar", True, of("zoe", "piano")],
            ["string", "plan", "none", of("zoe", "piano")],
            ["integer", "limit:minutes", 7, of("zoe", "nowhere")],
        ],
    )

    assert [each[0] for each in told] == [False, "none", 7]
    assert told[0][1:4] == ["DISABLED", "not_a_member", None]


@BY
def test_what_cannot_be_answered_is_the_default_with_the_error_that_it_is(sidecar, tmp_path, told_by):
    told = told_by(
        tmp_path,
        sidecar.port,
        TOKEN,
        [
            ["boolean", "video_avatar", False, {"workspace": "piano"}],
            ["boolean", "video_avatar", False, {"targetingKey": "pia"}],
            ["boolean", "video_avatar", False, {}],
            ["boolean", "video_avtar", False, of("pia", "piano")],
            ["boolean", "plan", False, of("pia", "piano")],
        ],
    )

    assert [(value, reason, code) for value, reason, _, code, _ in told] == [
        (False, "ERROR", code)
        for code in (
            "TARGETING_KEY_MISSING",
            "INVALID_CONTEXT",
            "TARGETING_KEY_MISSING",
            "FLAG_NOT_FOUND",
            "TYPE_MISMATCH",
        )
    ]


@BY
def test_without_a_sidecar_or_a_token_that_may_ask_there_are_defaults(sidecar, tmp_path, told_by):
    asked = [
        ["boolean", "video_avatar", False, of("pia", "piano")],
        ["string", "plan", "x", of("pia", "piano")],
    ]

    for port, token in ((free_port(), TOKEN), (sidecar.port, "nobody")):
        told = told_by(tmp_path, port, token, asked)

        assert [(value, reason) for value, reason, *_ in told] == [(False, "ERROR"), ("x", "ERROR")]


_WEB = Path(__file__).with_name("web.mjs")


def test_the_web_provider_asks_with_its_etag_and_keeps_the_last_workspace_where_setcontext_switches(
    sidecar, tmp_path
):
    """Why docs/flags.md has a provider for each workspace."""
    with_packages(tmp_path)
    (tmp_path / "web.mjs").write_text(_WEB.read_text())
    url = f"http://127.0.0.1:{sidecar.port}"
    told = json.loads(passed(program("node"), "web.mjs", url, TOKEN, cwd=tmp_path))

    assert told["first"] == {"plan": "pro", "avatar": True, "unlockedBy": ""}
    assert told["statuses"][0] == 200
    assert set(told["statuses"][1:]) == {304}
    assert len(told["statuses"]) > 1
    assert told["switched"] == {"plan": "starter", "avatar": False, "unlockedBy": "pro,team"}
    assert told["at_once"]["plan"] == "starter"  # the other's, before the answer is there
    assert told["away"]["plan"] == "starter"  # the other's, for good
    assert told["anew"] == {"at_once": "", "away": ""}  # another provider begins with nothing
