"""The npm package as it is published: its types, what is in it, and the words of the Python guards."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
from typing import Any

import pytest

from sidecar.guard.problems import CONFLICTS, DENIALS
from tests.node import passed, program
from tests.test_architecture import ROOT
from tests.typescript.openapi_types import FILE, written
from tests.typescript.packages import PACKAGE, built, compiled_by, consumer

pytestmark = pytest.mark.slow
MANIFEST: dict[str, Any] = json.loads((PACKAGE / "package.json").read_text())
CONSUMER = """
import { Sidecar, Unavailable, type Answer } from "policy-sidecar";
import { guards as forExpress } from "policy-sidecar/express";
import { guards as forHono } from "policy-sidecar/hono";
import { WorkspaceProvider } from "policy-sidecar/react";

const sidecar = new Sidecar({ url: "http://x" });
export async function ask(): Promise<string> {
  const answer: Answer = await sidecar.authorize({ user: "u", workspace: "w", action: "a.b" });
  const hold = await sidecar.reserve({ user: "u", workspace: "w", action: "a.b", amounts: { minutes: 1 } });
  if (hold.allow) await hold.commit({ amounts: { minutes: 1 } });
  // @ts-expect-error - a denial holds nothing
  else hold.commit();
  const known = await sidecar.entitlements({ user: "u", workspace: "w" });
  if (known.allow === false) return known.reason;
  return answer.allow ? answer.role : String(answer.upgrade?.[0]?.price.amount);
}
export const all = [Unavailable, WorkspaceProvider];
forHono({ sidecar, user: (c) => c.req.header("X-User") ?? null });
forExpress({ sidecar, user: async (req) => req.get("X-User") });
// @ts-expect-error - a question needs an action
export const wrong = () => sidecar.authorize({ user: "u", workspace: "w" });
"""


def test_the_types_are_those_of_the_openapi_document():
    assert FILE.read_text() == written(), "make client-types writes them anew"


def test_npm_packs_what_is_compiled_and_nothing_else(tmp_path):
    package = built()
    passed(program("npm"), "pack", "--ignore-scripts", "--pack-destination", tmp_path, cwd=package)
    [packed] = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
        scripts = {name: archive.extractfile(f"package/{name}") for name in names if name.endswith(".js")}
        texts = {name: file.read().decode() for name, file in scripts.items() if file}

    sources = {path.relative_to(PACKAGE / "src").with_suffix("") for path in PACKAGE.glob("src/**/*.ts*")}
    compiled = {f"dist/{name}{ending}" for name in sources for ending in (".js", ".d.ts")}
    assert names == compiled | {"package.json", "README.md", "LICENSE"}
    assert [
        name for name, text in texts.items() if re.search(r"\b(await\s+using|using\s+\w+\s*=)", text)
    ] == []
    for entry in MANIFEST["exports"].values():
        targets = entry.values() if isinstance(entry, dict) else [entry]
        assert {target.removeprefix("./") for target in targets} <= names


def test_it_depends_on_nothing_and_has_the_version_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert "dependencies" not in MANIFEST
    assert MANIFEST["version"] == project["version"]
    assert MANIFEST["sideEffects"] is False
    assert MANIFEST["peerDependenciesMeta"].keys() == MANIFEST["peerDependencies"].keys()
    assert all(meta["optional"] for meta in MANIFEST["peerDependenciesMeta"].values())


def test_the_client_alone_needs_no_framework(tmp_path):
    """As it is installed: without Hono, Express and React."""
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/policy-sidecar").symlink_to(built())
    (tmp_path / "alone.mjs").write_text(
        'import * as all from "policy-sidecar";\nconsole.log(Object.keys(all).join());'
    )
    alone = passed(program("node"), "--preserve-symlinks", "alone.mjs", cwd=tmp_path)

    assert alone.strip() == "Refused,Sidecar,Unavailable"


@pytest.mark.parametrize("compiler", ["typescript", "typescript-7"])
def test_its_types_compile_strictly(compiler, tmp_path):
    (consumer(tmp_path) / "consumer.ts").write_text(CONSUMER)
    done = compiled_by(compiler, "--noEmit", "consumer.ts", cwd=tmp_path)

    assert done.returncode == 0, done.stdout


def test_the_problems_have_the_titles_of_the_python_guards():
    script = """
        import { CONFLICTS, DENIALS } from "./dist/guards/problems.js";
        console.log(JSON.stringify([DENIALS, CONFLICTS]));
    """
    said = passed(program("node"), "--input-type=module", "-e", script, cwd=built())

    assert json.loads(said) == [dict(DENIALS), dict(CONFLICTS)]


def test_a_typo_in_a_name_of_the_catalog_does_not_compile(tmp_path):
    folder = consumer(tmp_path)
    types = subprocess.run(
        [sys.executable, "-m", "sidecar", "types", "--ts", "--plans", ROOT / "plans.yaml"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    (folder / "plans.ts").write_text(types)
    good = 'import { Sidecar } from "policy-sidecar";\nimport type { Catalog } from "./plans.js";\n'
    good += 'const sidecar = new Sidecar<Catalog>({ url: "http://x" });\n'
    ask = 'sidecar.authorize({ user: "u", workspace: "w", action: "ACTION", amounts: { METER: 1 } });\n'
    lines = [
        ask.replace("ACTION", action).replace("METER", meter)
        for action, meter in [
            ("recording.start", "minutes"),
            ("role:owner", "minutes"),
            ("feature:video_avatar", "minutes"),
            ("recording.strat", "minutes"),
            ("role:onwer", "minutes"),
            ("feature:video", "minutes"),
            ("recording.start", "minuets"),
        ]
    ]
    (folder / "typos.ts").write_text(good + "".join(lines))
    done = compiled_by("typescript-7", "--noEmit", "typos.ts", cwd=folder)

    assert [int(line) for line in re.findall(r"^typos\.ts\((\d+),", done.stdout, re.MULTILINE)] == [
        7,
        8,
        9,
        10,
    ]
