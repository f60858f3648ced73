"""HTTP clients that are programs of their own: curl, Node and Go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.serving.clients.asking import JSON, REQUESTS

if TYPE_CHECKING:
    from tests.serving.clients.asking import Answers, Asking

_HERE = Path(__file__).parent
_WITHIN_S = 20
_BUILDS_WITHIN_S = 180  # once: then Go has its standard library in its cache
_NEEDS = {
    "curl": "apt-get install curl",
    "node": "apt-get install nodejs",
    "go": "https://go.dev/doc/install",
}


def program(name: str) -> str:
    """Skips the test where there is none; with --require-servers a skip is a failure."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}: {_NEEDS[name]}")
    return found


def _output(*command: str | Path, told: object = None) -> str:
    run = subprocess.run(
        command, input=json.dumps(told), capture_output=True, text=True, timeout=_WITHIN_S, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def _answers(asking: Asking, *command: str | Path) -> Answers:
    told = {"url": asking.url, "requests": REQUESTS, "chunked": asking.chunked}
    return [(status, text) for status, text in json.loads(_output(*command, told=told))]


def _by_node(script: str, asking: Asking) -> Answers:
    return _answers(asking, program("node"), _HERE / script)


by_fetch = partial(_by_node, "fetch.mjs")
by_node_http = partial(_by_node, "http.mjs")


def by_go(asking: Asking) -> Answers:
    client = asking.folder / "client"
    built = subprocess.run(
        [program("go"), "build", "-o", client, _HERE / "client.go"],
        env=os.environ | {"CGO_ENABLED": "0", "GO111MODULE": "off"},  # it needs the standard library alone
        capture_output=True,
        text=True,
        timeout=_BUILDS_WITHIN_S,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    return _answers(asking, client)


def by_curl(asking: Asking) -> Answers:
    """One run asks one by one, another one all at once."""
    headers = [*(f"{name}: {value}" for name, value in JSON.items()), *asking.headers]
    if asking.chunked:
        headers.append("Transfer-Encoding: chunked")
    said = [option for header in headers for option in ("-H", header)]
    answers: Answers = []
    for at_once in ([], ["--parallel", "--parallel-max", "4"]):
        command = [program("curl"), "-q", *at_once]
        for number, (path, body) in enumerate(REQUESTS):
            (asking.folder / f"body-{number}").write_text(body)
            command += ["--silent", "--show-error", "--noproxy", "*", *said]
            command += ["--data-binary", f"@{asking.folder}/body-{number}"]
            command += ["--output", f"{asking.folder}/answer-{number}"]
            command += ["--write-out", "%{filename_effective} %{http_code}\n", asking.url + path, "--next"]
        statuses = dict(line.split() for line in _output(*command[:-1]).splitlines())
        for number in range(len(REQUESTS)):
            answer = asking.folder / f"answer-{number}"
            answers.append((int(statuses[str(answer)]), answer.read_text()))
    return answers
