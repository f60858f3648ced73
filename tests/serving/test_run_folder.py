"""What a server that was killed has left in the temporary folder is gone when the next one starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import pytest

from sidecar.serving.run_folder import run_folder

HELD = """
import os, time
from sidecar.serving.run_folder import run_folder
with run_folder() as folder:
    (folder / "file").touch()
    if os.fork():  # as a master that has a worker
        print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


@contextmanager
def a_server():
    """Its folder, and what kills all of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", HELD], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        folder = process.stdout.readline().strip()
        try:
            yield process, folder
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def make_old(folder):
    then = time.time() - 3_600
    os.utime(folder, (then, then))


def test_what_a_killed_server_left_is_removed_and_nothing_else(temporary):
    (temporary / "sidecar-run-of-nobody").touch()
    (temporary / "others").mkdir()
    with a_server() as (_, killed):
        pass
    with a_server() as (_, young):
        pass
    with a_server() as (master, orphaned), a_server() as (_, alive):
        master.kill()
        master.wait()  # its worker lives on
        for each in (killed, orphaned, alive, temporary / "others"):
            make_old(each)

        with run_folder() as ours:
            there = {str(each) for each in temporary.iterdir() if each.is_dir()}
            assert there == {str(ours), young, orphaned, alive, str(temporary / "others")}

    assert not ours.exists()
