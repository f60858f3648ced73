"""`sidecar audit decisions` of a real log; and what is no log, for all who read one."""

from __future__ import annotations

import json

import pytest

from tests.cli.audited.edits import edit, longest

pytestmark = pytest.mark.postgres


def decisions(sidecar, *arguments):
    code, out, err = sidecar("decisions", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)["rows"]


def test_decisions_are_found_by_what_they_say(log, audited, sidecar):
    found = {
        name: decisions(sidecar, log, *arguments.split())
        for name, arguments in {
            "sam": "--user sam",
            "acme": "--workspace acme",
            "paid": "--status 402",
            "reason": "--reason feature_not_in_plan",
            "action": "--action recording.start",
            "overridden": "--override any",
        }.items()
    }

    assert {line["user"] for line in found["sam"]} == {"sam"}
    assert {line["workspace"] for line in found["acme"]} == {"acme"}
    [paid] = found["paid"]
    assert paid["upgrade"] == ["pro", "team"]
    assert found["reason"] == [paid]
    assert {line["mode"] for line in found["action"]} == {"check", "consume", "reserve"}
    assert [line["user"] for line in found["overridden"]] == ["pia"]
    assert decisions(sidecar, log, "--workspace", paid["workspace_id"]) == found["sam"]


def test_a_denial_says_when_its_workspace_bought_what_it_offered(log, audited, sidecar):
    [row] = decisions(sidecar, log, "--status", "402", "--bought", "30", "--database-url", audited)

    assert row["at"] < row["bought"]
    _, out, _ = sidecar("decisions", log, "--status", "402", "--bought", "30", "--database-url", audited)
    assert f"bought {row['bought']}" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--reason quota_exceded", 'did you mean "quota_exceeded"?'),
        ("--action analytics.vew", 'did you mean "analytics.view"?'),
        ("--workspace acmee", 'did you mean "acme"?'),
        ("--bought 30", "--database-url"),
    ],
)
def test_what_is_not_known_is_misuse_with_what_was_meant(log, sidecar, arguments, says):
    code, out, err = sidecar("decisions", log, *arguments.split())

    assert (code, out) == (2, "")
    assert says in err


def test_lines_that_cannot_be_read_are_counted_and_told(copy, sidecar):
    path = longest(copy)
    edit(path, lambda lines: [b"\xff\n", lines[0][:-1] + b"\r\n", *lines, b'{"v":2}\n', b"torn"])

    code, out, _ = sidecar("decisions", copy, "--json")
    assert (code, json.loads(out)["unread"]) == (1, 4)
    code, out, _ = sidecar("decisions", copy)
    assert (code, out.splitlines()[-1].split(" could")[0]) == (1, "4 lines")


def test_csv_has_a_row_for_each_decision_and_says_beside_it_how_it_was_made(log, sidecar, tmp_path):
    assert sidecar("decisions", log, "--format", "csv", "-o", tmp_path / "d.csv")[0] == 0

    lines = (tmp_path / "d.csv").read_bytes().split(b"\r\n")
    meta = json.loads((tmp_path / "d.csv.meta.json").read_text())
    assert meta["rows"] == len(lines) - 2
    assert lines[0].startswith(b"at,decision_id,user,workspace,")


@pytest.mark.parametrize("command", ["verify-log", "decisions", "replay"])
def test_an_empty_folder_and_an_empty_log_are_misuse(sidecar, tmp_path, command):
    more = ("--archive", tmp_path) if command == "replay" else ()
    (tmp_path / "empty").mkdir()
    (tmp_path / "log.jsonl").touch()

    for path in (tmp_path / "empty", tmp_path / "log.jsonl"):
        code, out, err = sidecar(command, path, *more)
        assert (code, out) == (2, "")
        assert "nothing would be looked at" in err
    assert sidecar(command, tmp_path / "gone", *more)[0] == 78
    assert sidecar(command, tmp_path / "log.jsonl", *more, "--database-url", "postgresql://127.0.0.1:1/x")[
        0
    ] == (2 if command == "decisions" else 69)
