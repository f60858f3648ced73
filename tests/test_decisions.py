"""The decision table: the cases in tests/decisions, each through the core, by both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.audit.cases import cases_in
from sidecar.audit.runner import CaseRunner
from sidecar.decisions.reasons import REASONS
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.servers import opa_server
from tests.values import FAR_AWAY

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
FILES = [
    cases_in(path.read_bytes(), source=path.name, catalog=COMPILED.catalog)
    for path in sorted((Path(__file__).parent / "decisions").glob("*.yaml"))
]
CASES = [case for file in FILES for case in file.cases]


@pytest.fixture(scope="module")
def opa():
    with opa_server(bundle(COMPILED)) as url:
        yield OpaEngine(url, revision=COMPILED.revision)


@pytest.fixture(scope="module")
def embedded():
    return EmbeddedEngine(COMPILED.modules, COMPILED.data, revision=COMPILED.revision)


@pytest.fixture(params=[pytest.param("opa", marks=pytest.mark.opa), "embedded"])
def policy(request):
    return request.getfixturevalue(request.param)


def test_the_cases_can_be_read():
    assert [str(problem) for file in FILES for problem in file.problems] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.sentence)
def test_case(case, policy):
    assert CaseRunner(policy, compiled=COMPILED).differences(case, deadline=FAR_AWAY) == []


def test_there_is_a_case_about_every_reason_and_status_but_those_of_custom_rules():
    wanted = {(case.want["reason"], case.want["status"]) for case in CASES}
    may = {(reason, status) for reason, statuses in REASONS.items() for status in statuses}

    assert wanted == may - {("denied_by_policy", 403)}
