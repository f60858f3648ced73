"""Many situations in one query are answered as each of them alone."""

from __future__ import annotations

import json
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from sidecar.engines.opa import OpaEngine
from sidecar.errors import EngineMisbehaved, EngineUnavailable, RevisionMismatch
from tests.engines.documents import REVISION, a_denial, a_grant, text_of
from tests.engines.sockets import request_on, response, saying, server
from tests.servers import opa_server
from tests.values import FAR_AWAY

if TYPE_CHECKING:
    from pathlib import Path

SITUATIONS = [json.dumps({"action": f"a{number}"}).encode() for number in range(3)]
MARGIN_S = 10.0
_ONLY_THE_ENTRYPOINT = """package system.authz
default allow := false
allow if input.path == ["health"]
allow if input.path == ["v1", "data", "authz", "decision"]
"""


def answering(documents: dict[str, object]) -> bytes:
    return response({"result": [{"verdicts": documents}]})


def test_in_bulk_every_cell_has_the_verdict_that_it_has_alone(engine, all_cells):
    alone = [text_of(engine.verdict(cell, deadline=FAR_AWAY)) for cell in all_cells]

    together = [(cell, text_of(each)) for cell, each in engine.verdicts(all_cells, deadline=FAR_AWAY)]

    assert together == list(zip(all_cells, alone, strict=True))


def test_a_situation_may_be_asked_about_twice_and_hold_any_text(engine):
    situations = [
        json.dumps({"action": text, "context": {"x": text}}, ensure_ascii=False).encode()
        for text in ("é😀", '"', "\\", "\n\x00", "data.authz.plans", "é😀")
    ]

    learnt = list(engine.verdicts(situations, deadline=FAR_AWAY))

    assert [situation for situation, _ in learnt] == situations
    assert {verdict.reason for _, verdict in learnt} == {"not_a_member"}


def test_nothing_is_learnt_of_nothing(engine):
    assert list(engine.verdicts([], deadline=FAR_AWAY)) == []


def test_no_verdict_of_another_revision_is_learnt(engine_by, compiled, all_cells):
    engine = engine_by(compiled, revision="another")

    with pytest.raises(RevisionMismatch):
        list(engine.verdicts(all_cells, deadline=FAR_AWAY))


def test_what_comes_before_a_situation_without_a_verdict_is_learnt(engine_of):
    grant = json.dumps(a_grant())
    engine = engine_of(f'package authz\ndecision := {grant} if input.action != "a2"\n')

    learnt: list[bytes] = []
    with pytest.raises(EngineMisbehaved, match=r"data\.authz\.decision is undefined"):
        learnt.extend(situation for situation, _ in engine.verdicts(SITUATIONS, deadline=FAR_AWAY))

    assert learnt == SITUATIONS[:2]


def test_what_comes_before_a_verdict_that_is_none_is_learnt(engine_of):
    grant = json.dumps(a_grant())
    rego = f'decision := {grant} if input.action != "a2"\ndecision := "x" if input.action == "a2"\n'

    learnt: list[bytes] = []
    with pytest.raises(EngineMisbehaved, match='expected an object, got "x"'):
        learnt.extend(
            situation
            for situation, _ in engine_of(f"package authz\n{rego}").verdicts(SITUATIONS, deadline=FAR_AWAY)
        )

    assert learnt == SITUATIONS[:2]


def test_opa_is_asked_once_about_five_hundred():
    def talk(connection, heard):
        while request_on(connection, heard):
            asked = len(json.loads(heard.bodies[-1])["input"])
            connection.sendall(answering({str(number): a_grant() for number in range(asked)}))

    situations = [json.dumps({"action": f"a{number}"}).encode() for number in range(1_100)]
    with server(talk) as heard:
        learnt = list(OpaEngine(heard.url, revision=REVISION).verdicts(situations, deadline=FAR_AWAY))

    assert [situation for situation, _ in learnt] == situations
    assert [len(json.loads(body)["input"]) for body in heard.bodies] == [500, 500, 100]
    assert {head.split(b"\r\n")[0] for head in heard.heads} == {b"POST /v1/query HTTP/1.1"}


@pytest.mark.parametrize(
    "reply",
    [
        response({"code": "unauthorized"}, status="401 Unauthorized"),
        response(b"not found", status="404 Not Found"),
        response({}),
        response({"result": []}),
        answering({"0": a_denial(), "1": a_denial()}),
        answering({"0": a_denial(), "1": a_denial(), "3": a_denial()}),
        answering({str(number): a_denial() for number in range(4)}),
        response({"result": [{"verdicts": [a_denial(), a_denial(), a_denial()]}]}),
    ],
)
def test_an_opa_that_does_not_answer_in_bulk_is_asked_one_by_one(reply):
    with server(saying(reply, response({"result": a_grant()}))) as heard:
        learnt = list(OpaEngine(heard.url, revision=REVISION).verdicts(SITUATIONS, deadline=FAR_AWAY))

    assert [situation for situation, verdict in learnt if verdict.allow] == SITUATIONS
    assert heard.bodies[1:] == [b'{"input":' + each + b"}" for each in SITUATIONS]


@pytest.mark.opa
def test_an_opa_that_allows_nothing_but_the_entrypoint_is_asked_one_by_one(tmp_path: Path, compiled):
    for path, rego in (compiled.modules | {"system/authz.rego": _ONLY_THE_ENTRYPOINT}).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(rego)
    (tmp_path / "data.json").write_bytes(compiled.data)

    with opa_server(options=["--authorization=basic", str(tmp_path)]) as url:
        learnt = OpaEngine(url, revision=compiled.revision).verdicts(SITUATIONS, deadline=FAR_AWAY)
        reasons = [verdict.reason for _, verdict in learnt]

    assert reasons == ["not_a_member"] * 3


def test_an_opa_that_is_down_is_asked_once():
    def hang_up(connection, heard):
        request_on(connection, heard)

    with server(hang_up) as heard, pytest.raises(EngineUnavailable):
        list(OpaEngine(heard.url, revision=REVISION).verdicts(SITUATIONS, deadline=FAR_AWAY))

    assert len(heard.bodies) == 1


def test_a_silent_opa_is_waited_for_until_the_deadline():
    def say_nothing(_, heard):
        heard.stopping.wait(MARGIN_S * 2)

    with server(say_nothing) as heard:
        begun = monotonic()
        with pytest.raises(EngineUnavailable, match="timed out"):
            list(OpaEngine(heard.url, revision=REVISION).verdicts(SITUATIONS, deadline=begun + 0.2))
        took = monotonic() - begun

    assert 0.2 <= took < MARGIN_S


@pytest.mark.opa
def test_an_opa_without_our_policies_is_an_outage(compiled):
    with opa_server() as url, pytest.raises(EngineMisbehaved, match="is the bundle loaded"):
        list(OpaEngine(url, revision=compiled.revision).verdicts(SITUATIONS, deadline=FAR_AWAY))


def test_a_verdict_that_another_rule_contradicts_is_an_outage(engine_by, compiled):
    """In bulk, the conflict is of the whole query; alone, of the one situation."""
    contradiction = (
        f"package authz\ndecision := {json.dumps(a_grant())}\n"
        f'decision := {json.dumps(a_denial())} if input.action == "a1"\n'
    )
    engine = engine_by(replace(compiled, modules={"authz/authz.rego": contradiction}), revision=REVISION)

    learnt: list[bytes] = []
    with pytest.raises(EngineMisbehaved):
        learnt.extend(situation for situation, _ in engine.verdicts(SITUATIONS, deadline=FAR_AWAY))

    assert learnt == SITUATIONS[:1]
