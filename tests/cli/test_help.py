"""Every command says what it is for, and how it ends."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from sidecar.cli import commands


def all_commands(group=commands, before=()):
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield (*before, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, (*before, name))


def sidecar(*words, **settings):
    return subprocess.run(
        [sys.executable, "-m", "sidecar", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **settings,
    )


def test_help_names_every_command():
    said = sidecar("--help")

    assert said.returncode == 0
    assert {words[0] for words in all_commands()} <= set(said.stdout.split())


@pytest.mark.parametrize("words", list(all_commands()), ids=" ".join)
def test_every_command_has_help(words):
    said = sidecar(*words, "--help")

    assert said.returncode == 0
    assert said.stdout.splitlines()[0].startswith(f"Usage: sidecar {' '.join(words)}")


def test_an_unknown_command_is_exit_code_2():
    said = sidecar("chekc")

    assert (said.returncode, said.stdout) == (2, "")
    assert "No such command 'chekc'" in said.stderr


def test_a_reader_who_has_gone_is_exit_code_141():
    with subprocess.Popen(
        [sys.executable, "-m", "sidecar", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.close()
        assert process.stderr
        said = process.stderr.read()
        process.wait(30)

    assert (process.returncode, said) == (141, b"")
