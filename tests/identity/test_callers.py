from __future__ import annotations

import re
import stat
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from sidecar.cli.token import command
from sidecar.errors import ConfigError, UnknownCaller
from sidecar.identity.callers import (
    BY_LOOPBACK,
    BY_SOCKET,
    Caller,
    append_line,
    callers_in,
    is_of_elsewhere,
    new_token,
    token_line,
)


def problems_of(path):
    with pytest.raises(ConfigError) as refused:
        callers_in(path)
    return [f"{problem.pointer}: {problem.detail}" for problem in refused.value.problems]


def test_a_token_is_known_by_its_line(tmp_path):
    token = new_token()
    file = tmp_path / "tokens"
    file.write_text(f"# ours\n\n{token_line('backend', ['authorize', 'audit'], token)}\n")

    caller = callers_in(file).caller(f"Bearer {token}", by_socket=False)

    assert caller == Caller(name="backend", scopes=frozenset({"authorize", "audit"}))


def test_a_token_is_long_random_and_easy_to_find_in_a_leak():
    tokens = {new_token() for _ in range(100)}

    assert len(tokens) == 100
    assert all(re.fullmatch(r"sct_[A-Za-z0-9_-]{43}", token) for token in tokens)


def test_the_file_does_not_hold_the_token():
    assert "dev-token" not in token_line("dev", ["authorize"], "dev-token")


def test_who_shows_a_token_is_who_the_token_says_wherever_they_come_from(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(token_line("backend", ["authorize"], "t"))
    callers = callers_in(file)

    assert callers.caller("Bearer t", by_socket=True).name == "backend"
    assert callers.caller(None, by_socket=True) == BY_SOCKET
    for shown in ("Bearer u", "Bearer t t", "t", ""):
        with pytest.raises(UnknownCaller):
            callers.caller(shown, by_socket=True)
    with pytest.raises(UnknownCaller):
        callers.caller(None, by_socket=False)


def test_without_a_file_nobody_has_a_token():
    callers = callers_in(None)

    assert callers.caller(None, by_socket=False) == BY_LOOPBACK
    with pytest.raises(UnknownCaller):
        callers.caller("Bearer x", by_socket=False)


NEAR = "localhost LOCALHOST:8080 localhost. app.localhost:1 127.0.0.1 127.0.0.2:8080 [::1] [::1]:80 x:80 x"
FAR = (
    "evil.example EVIL.example:8080 evil.example. evil.example: 127.0.0.1.evil.example localhost.evil.example"
    " evil.localhost.com 10.1.2.3 0.0.0.0:8080 [fe80::1]:80 127.1 a.b:port"
)


@pytest.mark.parametrize(
    ("host", "is_believed"),
    [*((host, True) for host in (None, "", *NEAR.split())), *((host, False) for host in FAR.split())],
)
def test_loopback_counts_where_the_host_is_no_name_that_others_give_out(host, is_believed):
    callers = callers_in(None)

    assert is_of_elsewhere(host or "") is not is_believed
    if is_believed:
        assert callers.caller(None, by_socket=False, host=host) == BY_LOOPBACK
    else:
        with pytest.raises(UnknownCaller):
            callers.caller(None, by_socket=False, host=host)
    assert callers.caller(None, by_socket=True, host=host) == BY_SOCKET


def test_every_problem_of_the_file_is_told_with_its_line_and_no_secret(tmp_path):
    file = tmp_path / "tokens"
    good = token_line("backend", ["authorize"], "t")
    file.write_text(f"{good}\nbackend authorise sct_secret\nbackend\n\n-x admin,audit sha256:00\n{good}\n")

    actual = problems_of(file)

    assert actual == [
        f"{file}:2: a scope is not one of authorize, admin, audit, people; did you mean authorize?",
        f"{file}:2: the hash must be sha256: and 64 hexadecimal digits; `sidecar token` writes it",
        f"{file}:3: expected NAME SCOPE[,SCOPE…] sha256:HASH, got 1 words",
        f"{file}:5: the name must be 1 to 64 letters, digits, dots, dashes or underscores",
        f"{file}:5: the hash must be sha256: and 64 hexadecimal digits; `sidecar token` writes it",
        f"{file}:6: the same token as that of backend",
    ]


def test_a_file_without_a_token_or_without_a_file_is_a_problem(tmp_path):
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")

    assert problems_of(empty) == [f"{empty}: holds no token: nobody could ask; `sidecar token` makes one"]
    assert problems_of(binary) == [f"{binary}: cannot be read: not UTF-8; `sidecar token` makes it"]
    assert problems_of(tmp_path / "none") == [
        f"{tmp_path / 'none'}: cannot be read: No such file or directory; `sidecar token` makes it"
    ]


@pytest.mark.parametrize(
    ("name", "scopes"), [("", ["audit"]), ("a b", ["audit"]), ("a", ["root"]), ("a", [])]
)
def test_a_line_is_made_only_of_what_can_be_read_again(name, scopes):
    with pytest.raises(ConfigError):
        token_line(name, scopes, "t")


def test_a_new_token_is_shown_once_and_kept_as_a_hash(tmp_path):
    file = tmp_path / "tokens"

    results = [
        CliRunner().invoke(
            command, ["--name", name, "--scope", "audit", "--scope", "admin", "--file", str(file)]
        )
        for name in ("one", "two")
    ]

    tokens = [result.stdout.strip() for result in results]
    callers = callers_in(file)
    assert [result.exit_code for result in results] == [0, 0]
    assert [callers.caller(f"Bearer {token}", by_socket=False).name for token in tokens] == ["one", "two"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not any(token in file.read_text() for token in tokens)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_without_a_file_the_line_is_told_apart_from_the_token():
    result = CliRunner().invoke(command, ["--name", "one", "--scope", "audit"])

    assert re.fullmatch(r"sct_\S{43}\n", result.stdout)
    assert re.fullmatch(
        r"one audit sha256:[0-9a-f]{64} # made \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by \S+\n", result.stderr
    )


def test_a_line_tells_when_and_by_whom_its_token_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "otto the operator")
    file = tmp_path / "tokens"
    CliRunner().invoke(command, ["--name", "one", "--scope", "audit", "--file", str(file)])
    file.write_text(f"{file.read_text()}{token_line('two', ['audit'], '2')} # of the shop\n")

    one, two = callers_in(file).known

    assert one.made_by == "otto_the_operator"
    assert datetime.fromisoformat(str(one.made_at)) <= datetime.now(UTC)
    assert (two.name, two.made_at, two.made_by) == ("two", None, None)


def test_a_line_is_appended_after_a_last_line_without_an_end(tmp_path):
    file = tmp_path / "tokens"
    file.write_text(token_line("one", ["audit"], "1"))

    append_line(file, token_line("two", ["audit"], "2"))

    assert [line.split()[0] for line in file.read_text().splitlines()] == ["one", "two"]


def test_a_file_with_a_mistake_is_not_made_longer(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("nonsense\n")

    with pytest.raises(ConfigError):
        append_line(file, token_line("two", ["audit"], "2"))
    assert file.read_text() == "nonsense\n"


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    result = CliRunner().invoke(
        command, ["--name", "one", "--scope", "audit", "--file", str(tmp_path / "no" / "tokens")]
    )

    assert (
        str(result.exception) == f"{tmp_path / 'no' / 'tokens'} cannot be written: No such file or directory"
    )


@pytest.mark.parametrize(
    "arguments", [["--name", "x"], ["--scope", "audit"], ["--name", "x", "--scope", "root"]]
)
def test_what_is_missing_is_a_mistake_of_usage(arguments):
    assert CliRunner().invoke(command, arguments).exit_code == 2
