from __future__ import annotations

import json

import pytest

from sidecar.engines.embedded import EmbeddedEngine
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable
from tests.values import FAR_AWAY

CONTRADICTION = "package authz\ndecision := 1 if input.role\ndecision := 2 if input.plan\n"


@pytest.mark.parametrize(
    ("modules", "data"),
    [
        ({"a.rego": "package authz\ndecision := 1 if {"}, b"{}"),
        ({"a.rego": "this is not Rego"}, b"{}"),
        ({"a.rego": "package authz\ndecision := 1"}, b"not JSON"),
    ],
)
def test_what_does_not_build_does_not_start(modules, data):
    with pytest.raises(ConfigError, match="the policies do not build"):
        EmbeddedEngine(modules, data, revision="r1")


def test_nothing_is_printed_when_something_fails(capfd):
    engine = EmbeddedEngine({"a.rego": "package authz\ndecision := nosuch"}, b"{}", revision="r1")
    with pytest.raises(EngineMisbehaved):
        engine.verdict(b"{}", deadline=FAR_AWAY)
    with pytest.raises(ConfigError):
        EmbeddedEngine({"a.rego": "package authz\ndecision := {"}, b"{}", revision="r1")

    assert capfd.readouterr() == ("", "")


def test_data_with_escapes_is_what_it_says():
    engine = EmbeddedEngine(
        {"a.rego": "package authz\ndecision := data.names[input.name]"},
        rb'{"names": {"\u00e9": "found"}}',
        revision="r1",
    )

    with pytest.raises(EngineMisbehaved, match='expected an object, got "found"'):
        engine.verdict('{"name":"é"}'.encode(), deadline=FAR_AWAY)


def test_an_answer_that_comes_too_late_is_refused(monkeypatch, embedded):
    times = iter([0.0, 2.0])
    monkeypatch.setattr("sidecar.engines.embedded.monotonic", lambda: next(times))

    with pytest.raises(EngineUnavailable):
        embedded.verdict(b"{}", deadline=1.0)


def test_rules_that_contradict_each_other_are_an_error():
    engine = EmbeddedEngine({"a.rego": CONTRADICTION}, b"{}", revision="r1")

    with pytest.raises(EngineMisbehaved, match="is in error: do two rules contradict each other"):
        engine.verdict(b'{"role":"a","plan":"b"}', deadline=FAR_AWAY)


def test_a_rule_of_ones_own_that_denies_without_a_code_is_an_outage(compiled):
    """An OPA server refuses to load it, for its type: here it must not be passed over."""
    modules = {**compiled.modules, "custom/embargo.rego": "package custom\n\ndenials if input.role\n"}
    engine = EmbeddedEngine(modules, compiled.data, revision=compiled.revision)
    member = {"action": "platform.use", "role": "member", "plan": "pro", "status": "active"}

    with pytest.raises(EngineMisbehaved, match="/detail: expected the code of the rule that denied"):
        engine.verdict(json.dumps(member).encode(), deadline=FAR_AWAY)


@pytest.mark.parametrize("text", ["\U000f0022", "a\U000f0000"])
def test_a_character_that_stands_for_another_is_refused(embedded, text):
    with pytest.raises(EngineMisbehaved, match="private plane"):
        embedded.verdict(json.dumps({"action": text}).encode(), deadline=FAR_AWAY)
    with pytest.raises(ConfigError, match="private plane"):
        EmbeddedEngine({"a.rego": f'package authz\ndecision := "{text}"'}, b"{}", revision="r1")


def test_other_context_is_read(embedded):
    situation = json.dumps({"action": None, "context": {"path": "/é/😀?a=b"}}).encode()

    assert embedded.verdict(situation, deadline=FAR_AWAY).reason == "not_a_member"


def test_infinity_is_no_number():
    engine = EmbeddedEngine({"a.rego": "package authz\ndecision := 1"}, b"{}", revision="r1")

    with pytest.raises(EngineMisbehaved, match="not JSON compliant"):
        engine.verdict(b'{"context":{"n":1e400}}', deadline=FAR_AWAY)
