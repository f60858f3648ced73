"""docs/audit.md: each command of it is run in the project's folder and prints what stands under it.

A code block `console` holds commands, `$ sidecar …`, each with its output; `…` alone on a line stands for any
lines. What differs from run to run is compared by its kind: moments, revisions and ids, versions of engines.
A block `console NAME` is run in the folder, and with the variables, that the fixture `stage_NAME` makes.
Dates in a command are as far from today as they were when the page was WRITTEN.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from time import monotonic

import pytest

from sidecar.cli import main
from sidecar.engines.installed import embedded_engine
from sidecar.engines.verdict import document_of
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.world import load
from tests.audit.logs import a_short_day
from tests.cli.a_company import stage_company
from tests.cli.a_story import a_story, with_changes
from tests.postgres_server import DEMO_WORLD, a_database

__all__ = ["stage_company"]  # a fixture

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs/audit.md"
WRITTEN = date(2026, 11, 28)
DATE = re.compile(r"\b\d{4}-\d\d-\d\d\b")
BLOCK = re.compile(r"^```console(?: (?P<stage>\w+))?\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b\w+@\d{10,}"), "DATABASE"),
    (re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "UUID"),
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
    (tmp_path / "new.yaml").write_text(with_changes(shipped("plans.yaml").read_text()))
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


@pytest.fixture
def stage_log(tmp_path):
    """A log of two writers, and the bundle of its revision in `archive`."""
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    engine = embedded_engine(compiled)
    a_short_day(
        tmp_path,
        compiled,
        lambda situation: document_of(engine.verdict(situation, deadline=monotonic() + 60)),
    )
    text = shipped("plans.yaml").read_text()
    before = "members.remove: {role: admin}"
    assert before in text
    (tmp_path / "new.yaml").write_text(text.replace(before, "members.remove: {role: owner}"))
    return tmp_path


@pytest.fixture(scope="module")
def story(postgres_server, migrated_template, tmp_path_factory):
    pytest.importorskip("regopy", reason="needs the extra `embedded`")
    for url in a_database(postgres_server, template=migrated_template):
        with a_story(url, tmp_path_factory.mktemp("story")) as story:
            yield story


@pytest.fixture
def stage_story(story, monkeypatch):
    monkeypatch.setenv("SIDECAR_AUDIT_URL", story.company.auditor)
    monkeypatch.setenv("DECISION", story.decision)
    return story.folder


def as_long_ago(command):
    """The command with its dates as far from today as they are from WRITTEN."""
    passed = datetime.now(UTC).date() - WRITTEN
    return DATE.sub(lambda found: str(date.fromisoformat(found[0]) + passed), command)


@pytest.mark.parametrize(("stage", "command", "output", "code"), list(examples()))
def test_each_command_prints_what_stands_under_it(stage, command, output, code, monkeypatch, capfd, request):
    monkeypatch.chdir(request.getfixturevalue(f"stage_{stage}") if stage else ROOT)
    program, *arguments = shlex.split(os.path.expandvars(as_long_ago(command)))
    assert program == "sidecar"
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


def test_each_of_twelve_questions_has_a_command():
    text = DOCUMENT.read_text()
    table = re.findall(r"^\| (\d+) \| .* \| \[[^]]*\]\(#(.*)\) \|$", text, re.MULTILINE)
    sections = dict(re.findall(r"^### (\d+) (.*?)\n(?=^##)", text + "\n## ", re.MULTILINE | re.DOTALL))

    assert [int(number) for number, _ in table] == list(range(1, 13))
    for number, anchor in table:
        title, _, says = sections[number].partition("\n")
        assert anchor == f"{number} {title}".lower().replace(" ", "-").replace(",", "")
        assert len(re.findall(r"^\$ sidecar audit ", says, re.MULTILINE)) == 1
