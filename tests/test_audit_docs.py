"""docs/audit.md: each command of it is run in the project's folder and prints what stands under it.

A code block `console` holds commands, `$ sidecar …`, each with its output; `…` alone on a line stands for any
lines. What differs from run to run is compared by its kind: moments, revisions and ids, versions of engines.
A block `console NAME` is run in the folder, and with the variables, that the fixture `stage_NAME` makes.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from sidecar.cli import main
from sidecar.settings import shipped
from sidecar.store.world import load
from tests.cli.a_company import stage_company
from tests.postgres_server import DEMO_WORLD

__all__ = ["stage_company"]  # a fixture

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/audit.md"
BLOCK = re.compile(r"^```console(?: (?P<stage>\w+))?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}(?:…|\b)"), "ID"),
    (re.compile(r"\b(?:opa|embedded) \d+\.\d+\.\d+"), "ENGINE"),
    (re.compile(r"policy-sidecar \d+\.\d+\.\d+"), "SIDECAR"),
    (re.compile(r"[ \t]+"), " "),
)


def examples():
    """(stage, command, the lines of its output, its exit code)."""
    for block in BLOCK.finditer(DOCUMENT.read_text()):
        for part in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
            command, *output = part.rstrip("\n").split("\n")
            command, _, code = command.partition("  # exit code ")
            yield pytest.param(block["stage"], command, output, int(code or 0), id=command[:60])


def alike(text):
    for pattern, name in VARIES:
        text = pattern.sub(name, text)
    return text.strip()


def fits(printed, wanted):
    """Whether *printed* is *wanted*, in which a line `…` stands for any lines."""
    pattern = "\n".join("(?:.*\n?)*?" if line.strip() == "…" else re.escape(alike(line)) for line in wanted)
    return (
        re.fullmatch(pattern.replace("(?:.*\n?)*?\n", "(?:.*\n)*?"), "\n".join(map(alike, printed)))
        is not None
    )


@pytest.fixture
def stage_changed(tmp_path, monkeypatch, database_url):
    """The demo, where new.yaml is another catalog and solo has used 97 minutes."""
    text = shipped("plans.yaml").read_text()
    for before, after in (
        ("[video_avatar, live_coaching, analytics]", "[video_avatar, live_coaching]"),
        ("[team_sessions, team_analytics]", "[team_sessions, team_analytics, analytics]"),
        ("members.remove: {role: admin}", "members.remove: {role: owner}"),
        ("{minutes: 100,", "{minutes: 60,"),
    ):
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "new.yaml").write_text(text)
    shutil.copy(shipped("plans.yaml"), tmp_path)
    solo = "plan: starter, owner: sam}"
    world = DEMO_WORLD.read_text()
    assert solo in world
    (tmp_path / "world.yaml").write_text(
        world.replace(solo, "plan: starter, owner: sam, usage: {minutes: 97}}")
    )
    load(database_url, tmp_path / "world.yaml")
    monkeypatch.setenv("SIDECAR_AUDIT_URL", database_url)
    return tmp_path


@pytest.mark.parametrize(("stage", "command", "output", "code"), list(examples()))
def test_each_command_prints_what_stands_under_it(stage, command, output, code, monkeypatch, capfd, request):
    program, *arguments = shlex.split(command)
    assert program == "sidecar"
    monkeypatch.chdir(request.getfixturevalue(f"stage_{stage}") if stage else ROOT)
    monkeypatch.setattr(sys, "argv", [program, *arguments])

    with pytest.raises(SystemExit) as left:
        main()

    printed = capfd.readouterr()
    assert (left.value.code or 0) == code, printed.err
    assert fits(printed.out.rstrip("\n").split("\n"), output), printed.out


def test_an_output_that_differs_is_noticed():
    assert fits(["a 2026-11-28T09:00:00Z", "b", "c"], ["a 2026-01-01T00:00:00Z", "…", "c"])
    assert fits(["a", "c"], ["a", "…", "c"])
    assert not fits(["a", "b"], ["a", "c"])
    assert not fits(["a", "b", "c"], ["a", "c"])
