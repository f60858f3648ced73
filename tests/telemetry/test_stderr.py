from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest

from sidecar.telemetry.stderr import JsonLines, TextLines, line_of

HOSTILE = "sam\n2026-11-29 00:00:00,000 [1] INFO forged\r\x85\u2028\x1b[2Jx\u202e"


def record(message, *arguments, error=None):
    exc_info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("sidecar", logging.ERROR, "f.py", 1, message, arguments, exc_info)


def raised(text):
    try:
        raise ValueError(text)  # noqa: TRY301 - for its traceback
    except ValueError as error:
        return error


def test_a_hostile_name_forges_no_line_of_text():
    text = TextLines().format(record("user %s", HOSTILE))

    assert text.splitlines() == [text]
    assert "\x1b" not in text
    assert "\\n2026" in text


def test_a_traceback_is_indented_whatever_its_message_holds():
    [first, *others] = TextLines().format(record("defect", error=raised(HOSTILE))).splitlines()

    assert first.endswith("ERROR defect")
    assert len(others) >= 3
    assert all(line.startswith("    ") for line in others)


def test_a_line_of_json_is_one_object_with_its_traceback():
    text = JsonLines().format(record("user %s", HOSTILE, error=raised("x\ny")))

    assert text.splitlines() == [text]
    found = json.loads(text)
    assert list(found) == ["ts", "level", "message", "logger", "pid", "error"]
    assert found["message"] == f"user {HOSTILE}"
    assert found["level"] == "error"
    assert found["error"].endswith("ValueError: x\ny")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_of_a_command_is_one_line(log_format):
    assert len(line_of(HOSTILE, level="error", log_format=log_format).splitlines()) == 1


@pytest.mark.parametrize("arguments", [["serve"], ["serve", "--nonsense"], ["nonsense"]])
def test_a_command_that_fails_says_so_in_json(arguments, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "sidecar", *arguments],
        capture_output=True,
        cwd=tmp_path,
        timeout=60,
        check=False,
        env={"SIDECAR_LOG_FORMAT": "json", "PATH": "", "PYTHONPATH": ":".join(sys.path)},
    )

    lines = ran.stderr.decode().splitlines()
    assert ran.returncode in {2, 78}
    assert lines
    assert all(list(json.loads(line)) == ["ts", "level", "message"] for line in lines)
