"""docs/quotas.md: its examples are answered as it says, and every guarantee has its test."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

from tests.api.stage import BACKEND, a_stage
from tests.values import some_facts

ROOT = Path(__file__).parent.parent.parent
TEXT = (ROOT / "docs/quotas.md").read_text()
MEMBERS = {("mia", "acme"): some_facts(role="member", plan="team")}
OWN = {"decision_id", "policy_revision"}


def examples():
    """What is sent, as (path, body), and what is answered to the last of it."""
    for commands, answer in re.findall(r"```sh\n(ask .*?)```\n```json\n(.*?)```", TEXT, re.DOTALL):
        words = shlex.split(commands)
        sent = [
            (words[place + 1].partition(":8080")[2], json.loads(words[place + 3]))
            for place, word in enumerate(words)
            if word == "ask"
        ]
        yield sent, json.loads(answer)


def test_every_example_is_answered_as_the_document_says():
    stage = a_stage(MEMBERS)
    ids: dict[str, str] = {}
    found = list(examples())

    for sent, written in found:
        for path, body in sent:
            for written_id, id_ in ids.items():
                path = path.replace(written_id, id_)  # noqa: PLW2901 - the reservation is another one here
            actual = stage.client.post(path, json=body, headers={"Authorization": f"Bearer {BACKEND}"}).json
        if written.get("reservation"):
            ids[written["reservation"]["id"]] = actual["reservation"]["id"]
            actual["reservation"]["id"] = written["reservation"]["id"]
        assert list(actual) == list(written)
        assert {**actual, **dict.fromkeys(OWN)} == {**written, **dict.fromkeys(OWN)}
    assert len(found) == 5


def test_every_hole_of_the_naive_version_is_shown():
    functions = re.findall(r"CREATE FUNCTION naive\.(\w+)", Path(__file__).with_name("naive.sql").read_text())
    shown = Path(__file__).with_name("test_naive.py").read_text()

    assert [name for name in functions if name not in shown] == []
