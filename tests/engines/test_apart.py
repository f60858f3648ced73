"""Policies that end the embedded engine's process, or take too long, do it in a process apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from itertools import islice
from time import monotonic

import pytest

from sidecar.engines.apart import refuse_if_dangerous, verdicts_apart
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable
from sidecar.rego.authzen import AuthzenPolicy
from tests.engines.documents import a_grant, text_of
from tests.values import FAR_AWAY

pytestmark = pytest.mark.long

MARGIN_S = 10.0
# Nothing that `sidecar check` lets through is known to abort regopy; this does, and is refused there.
ABORTS = """package authz
decision := [verdict | some situation in input.list; verdict := data.authz.other with input as situation]
default other := 1
other := 2 if not bad
bad if input.a
"""
# Many seconds, until regopy gives up by itself.
_COUNT = "count([1 | some a in _digits; some b in _digits; some c in _digits; a + b + c == -1])"
TAKES_LONG = f"""package authz
_digits := {list(range(30))}
decision := [{", ".join([_COUNT] * 100)}]
"""


def a_policy(rego: str) -> AuthzenPolicy:
    return AuthzenPolicy(
        revision="r1", modules={"a.rego": rego}, data=b"{}", rules={"decision": "data.authz.decision"}
    )


def test_apart_every_cell_has_the_verdict_that_it_has_here(embedded, compiled, all_cells):
    apart = [(cell, text_of(each)) for cell, each in verdicts_apart(compiled, all_cells, deadline=FAR_AWAY)]

    assert apart == [(cell, text_of(each)) for cell, each in embedded.verdicts(all_cells, deadline=FAR_AWAY)]


def test_nothing_is_started_for_nothing(compiled, monkeypatch):
    monkeypatch.setattr("sidecar.engines.apart.subprocess", None)

    assert list(verdicts_apart(compiled, [], deadline=FAR_AWAY)) == []


def test_policies_that_do_not_build_are_a_configuration_error(compiled, all_cells):
    broken = replace(compiled, modules={"a.rego": "package authz\ndecision := {"})

    with pytest.raises(ConfigError, match="the policies do not build"):
        list(verdicts_apart(broken, all_cells, deadline=FAR_AWAY))


def test_policies_that_abort_the_engine_are_a_configuration_error(compiled, all_cells):
    aborting = replace(compiled, modules={"a.rego": ABORTS})

    with pytest.raises(ConfigError, match="end the embedded engine's process"):
        list(verdicts_apart(aborting, all_cells, deadline=FAR_AWAY))


def test_what_was_answered_before_the_deadline_is_kept(compiled):
    grants = f'decision := {json.dumps(a_grant())} if input.action == "quick"'
    slow = TAKES_LONG.strip() + f' if input.action == "slow"\n{grants}\n'
    policies = replace(compiled, modules={"a.rego": slow}, revision="r1")
    situations = [b'{"action":"quick"}', b'{"action":"quick"}', b'{"action":"slow"}']
    begun = monotonic()

    answers = verdicts_apart(policies, situations, deadline=begun + 4)
    quick = [verdict.allow for _, verdict in islice(answers, 2)]
    with pytest.raises(EngineUnavailable, match="answered 2 of 3 questions in time"):
        next(answers)

    assert quick == [True, True]
    assert monotonic() - begun < 4 + MARGIN_S


def test_a_situation_without_a_verdict_is_an_outage_after_those_before_it(compiled):
    rego = f'package authz\ndecision := {json.dumps(a_grant())} if input.action == "a"\n'
    policies = replace(compiled, modules={"a.rego": rego}, revision="r1")
    answers = verdicts_apart(policies, [b'{"action":"a"}', b'{"action":"b"}'], deadline=FAR_AWAY)

    assert next(answers)[1].allow
    with pytest.raises(EngineMisbehaved, match="is undefined"):
        next(answers)


def test_a_policy_that_answers_may_be_asked_here():
    refuse_if_dangerous(a_policy("package authz\ndecision := input.action.name == input.subject.id\n"))


def test_a_policy_that_aborts_the_engine_is_refused_in_words():
    with pytest.raises(ConfigError, match="end the embedded engine's process"):
        refuse_if_dangerous(a_policy(ABORTS))


def test_a_policy_that_takes_too_long_is_refused_in_words():
    with pytest.raises(ConfigError, match=r"did not answer by it within 1 s: make it simpler, or take OPA"):
        refuse_if_dangerous(a_policy(TAKES_LONG), within_s=1)


def test_the_child_ends_with_its_parent():
    script = (
        "import subprocess; from tests.engines.test_apart import a_policy, TAKES_LONG;"
        " from sidecar.engines import apart; begin = subprocess.Popen;"
        " subprocess.Popen = lambda *a, **k: print((c := begin(*a, **k)).pid, flush=True) or c;"
        " apart.refuse_if_dangerous(a_policy(TAKES_LONG), within_s=60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        before = _is_running(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait(MARGIN_S)
    ending = monotonic() + MARGIN_S
    while _is_running(child) and monotonic() < ending:
        os.sched_yield()

    assert before
    assert not _is_running(child)


def _is_running(pid: int) -> bool:
    """A zombie that nobody reaps is not."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a file of the kernel
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
