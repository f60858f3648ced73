"""`sidecar audit replay` of a real log: by what was kept, and against another policy."""

from __future__ import annotations

import json

import pytest

from sidecar.settings import shipped
from tests.cli.audited.edits import edit, longest

pytestmark = pytest.mark.postgres


def replayed(sidecar, *arguments):
    code, out, err = sidecar("replay", *arguments, "--engine", "embedded", "--json")
    assert out, err
    return code, json.loads(out)


@pytest.mark.parametrize("kept", ["database", "archive"])
def test_a_day_is_replayed_by_what_was_kept(log, audited, archive, sidecar, kept):
    where = ("--database-url", audited) if kept == "database" else ("--archive", archive)
    code, report = replayed(sidecar, log, *where)

    assert (code, report["different"]) == (0, [])
    assert report["same"] == report["decisions"] > 5
    assert report["not_replayable"]["no_original"] == report["not_replayable"]["unread"] == 0


def test_one_flipped_verdict_is_exactly_that_one(copy, archive, sidecar):
    path = longest(copy)
    flipped = {}

    def change(lines):
        for number, line in enumerate(lines):
            if b'"kind":"decision"' in line and b'"mode":"check"' in line and b'"allow":true' in line:
                flipped["line"] = number + 1
                lines[number] = line.replace(b'"allow":true', b'"allow":false')
                break
        return lines

    edit(path, change)
    code, report = replayed(sidecar, copy, "--archive", archive)

    [one] = report["different"]
    assert (code, one["file"], one["line"], one["writer"]) == (1, str(path), flipped["line"], path.stem)
    assert (one["logged"]["allow"], one["replayed"]["allow"]) == (False, True)
    [other] = replayed(sidecar, copy, "--archive", archive, "--decision", one["decision_id"])[1]["different"]
    assert other == one


def test_a_revision_that_is_nowhere_kept_is_told_by_count_and_is_no_finding(log, sidecar, tmp_path, compiled):
    code, out, err = sidecar("replay", log, "--archive", tmp_path)

    assert (code, out) == (69, "")
    assert compiled.revision in err
    assert "nowhere kept" in err


def test_a_bundle_of_another_revision_is_refused_with_both(log, archive, compiled, sidecar, tmp_path):
    wrong = (archive / f"{compiled.revision}.tar.gz").read_bytes()
    lines = [line for path in log.glob("*/*.jsonl") for line in path.read_text().splitlines()]
    other = "0" * 32
    (tmp_path / "log.jsonl").write_text(
        "\n".join(line.replace(compiled.revision, other) for line in lines) + "\n"
    )
    (tmp_path / f"{other}.tar.gz").write_bytes(wrong)

    code, out, err = sidecar("replay", tmp_path / "log.jsonl", "--archive", tmp_path)

    assert (code, out) == (78, "")
    assert other in err
    assert compiled.revision in err


def test_another_policy_is_asked_the_same_questions(log, sidecar, tmp_path):
    text = shipped("plans.yaml").read_text()
    before = "recording.start: {role: member"
    assert before in text
    (tmp_path / "new.yaml").write_text(text.replace(before, "recording.start: {role: owner"))

    code, report = replayed(sidecar, log, "--against", tmp_path / "new.yaml")

    assert code == 0
    [change] = report["transitions"]
    assert (change["from"], change["to"], change["people"], change["workspaces"]) == (200, 403, 1, 1)
    assert report["decisions"] == report["same"] + change["decisions"]
    assert replayed(sidecar, log, "--against", shipped("plans.yaml"))[1]["transitions"] == []
