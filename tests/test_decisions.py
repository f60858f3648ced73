"""The decision table: stories in tests/decisions, each through the core, by both engines."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.audit.rehearsal import Rehearsal
from sidecar.audit.stories import stories_in
from sidecar.decisions.reasons import REASONS
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.rego.bundle import bundle
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.servers import opa_server
from tests.values import FAR_AWAY

COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
TOLD = [
    stories_in(path.read_bytes(), source=path.name, catalog=COMPILED.catalog)
    for path in sorted((Path(__file__).parent / "decisions").glob("*.yaml"))
]
STORIES = [story for told in TOLD for story in told.stories]


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


def test_the_stories_can_be_read():
    assert [str(problem) for told in TOLD for problem in told.problems] == []


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.sentence)
def test_story(story, policy):
    assert Rehearsal(policy, compiled=COMPILED).differences(story, deadline=FAR_AWAY) == []


def test_there_is_a_story_about_every_reason_and_status_but_those_of_custom_rules():
    told = {(story.want["reason"], story.want["status"]) for story in STORIES}
    may = {(reason, status) for reason, statuses in REASONS.items() for status in statuses}

    assert told == may - {("denied_by_policy", 403)}
