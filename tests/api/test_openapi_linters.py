"""/openapi.json as other people's tools read it: two linters without a word, and TypeScript that compiles."""

from __future__ import annotations

import json
import re

import pytest

from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.openapi import document
from tests.node import program, run, tool

pytestmark = [pytest.mark.slow, pytest.mark.long]

USES = """
import type { components, operations, paths } from "./api";

type Decision = components["schemas"]["Decision"];
type Question = components["schemas"]["AuthorizeBody"];

export const question: Question = { user: "sam", workspace: "solo", action: "x", amounts: { minutes: 5 } };
export function why(decision: Decision): "granted" | "quota_exceeded" | "other" {
  return decision.reason === "granted" || decision.reason === "quota_exceeded" ? decision.reason : "other";
}
export type Plans = paths["/plans"]["get"]["responses"][200]["content"]["application/json"];
export const limit = (plans: Plans): number | null => plans.plans[0]?.limits["minutes"] ?? null;
export type Invited = operations["invite"]["responses"][201]["content"]["application/json"]["token"];
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("openapi")
    (made / "openapi.json").write_text(json.dumps(document(ENDPOINTS)))
    return made


def redocly(folder):
    (folder / "redocly.yaml").write_text("extends: [recommended]\n")
    script = tool("@redocly/cli") / "bin/cli.js"
    return run(
        program("node"), script, "lint", "openapi.json", "--format=json", "--config=redocly.yaml", cwd=folder
    )


def spectral(folder):
    (folder / "spectral.yaml").write_text('extends: ["spectral:oas"]\n')
    script = tool("@stoplight/spectral-cli") / "dist/index.js"
    return run(
        program("node"),
        script,
        "lint",
        "openapi.json",
        "--ruleset=spectral.yaml",
        "--format=json",
        "--fail-severity=hint",
        cwd=folder,
    )


@pytest.mark.long
def test_redoclys_recommended_rules_find_nothing(folder):
    ended = redocly(folder)
    found = json.loads(ended.stdout)

    assert found["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, ended.stdout[-6_000:]
    assert ended.returncode == 0


def test_spectrals_recommended_rules_find_nothing(folder):
    ended = spectral(folder)

    assert json.loads(ended.stdout[: ended.stdout.rindex("]") + 1]) == []
    assert ended.returncode == 0


def test_each_linter_sees_what_is_wrong(folder, tmp_path):
    broken = document(ENDPOINTS)
    del broken["paths"]["/plans"]["get"]["summary"], broken["paths"]["/plans"]["get"]["description"]
    (tmp_path / "openapi.json").write_text(json.dumps(broken))

    assert json.loads(redocly(tmp_path).stdout)["totals"]["errors"] == 1
    assert "operation-description" in spectral(tmp_path).stdout


@pytest.mark.long
def test_types_are_made_of_it_and_compile(folder):
    made = run(
        program("node"),
        tool("openapi-typescript") / "bin/cli.js",
        "openapi.json",
        "--output=api.d.ts",
        cwd=folder,
    )
    assert made.returncode == 0, made.stderr
    (folder / "uses.ts").write_text(USES)
    compiler = tool("typescript") / "bin/tsc"
    strictly = ("--strict", "--noEmit", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes")
    options = (*strictly, "--module", "nodenext", "--target", "es2022")

    ended = run(program("node"), compiler, *options, "api.d.ts", "uses.ts", cwd=folder)

    assert (ended.returncode, ended.stdout) == (0, "")
    assert re.match(r"Version 5\.9\.", run(program("node"), compiler, "--version", cwd=folder).stdout)
    (folder / "uses.ts").write_text(USES.replace('"granted" ||', '"grnated" ||'))
    assert run(program("node"), compiler, *options, "api.d.ts", "uses.ts", cwd=folder).returncode != 0
