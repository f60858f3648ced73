"""What other clients see while one peer, or a few, behave as badly as they can: nothing at all."""

from __future__ import annotations

from time import sleep

import pytest

from tests.serving.meanwhile import ASK, Others, request
from tests.serving.peers import (
    CHECK_HEAD,
    Peers,
    a_batch,
    absent_body,
    endless_head,
    resetting,
    silent,
    slow_body,
    slow_chunks,
    slow_head,
    unread,
    unread_pipeline,
)
from tests.serving.processes import children_of
from tests.serving.stand import WELL, Stand, in_time, seen_by

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

WATCHED_S = 2.0
NINE = 9  # more than the threads of both workers together

HELD_UP_BY = {
    "nobody": [],
    "heads of a byte every 4 s": [slow_head(4.0)] * NINE,
    "heads of a byte every half second": [slow_head(0.5)] * NINE,
    "a head that never ends on a kept connection": [endless_head()],
    "heads that never end on six kept connections": [endless_head()] * 6,
    "slow bodies": [slow_body()] * NINE,
    "slow chunks": [slow_chunks()] * NINE,
    "bodies that never come": [absent_body()] * NINE,
    "bodies that never come to a gateway's endpoint": [
        absent_body(f"/gw/{each}") for each in ("nginx", "forward-auth", "haproxy", "ext-authz/x") * 3
    ],
    "questions that are pipelined and never read": [unread_pipeline()] * NINE,
    "descriptions that are pipelined and never read": [
        unread_pipeline(request("GET", "/openapi.json"), 2_000)
    ] * NINE,
    "batches whose answers are not read": [unread(a_batch(300))] * NINE,
    "many who connect and say nothing": [silent()] * 300,
    "many who reset in the middle of a head": [resetting(CHECK_HEAD)] * 4,
    "many who reset in the middle of a body": [resetting(CHECK_HEAD + b"Content-Length: 99\r\n\r\n{")] * 4,
    "many who reset before their answer": [resetting(ASK)] * 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def stand(database, opa, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecar")
    with Stand(folder, database_url=database, opa_url=opa.url, deadline_ms=1_000) as stand:
        yield stand


@pytest.mark.parametrize("by", HELD_UP_BY)
def test_nobody_is_held_up_by(stand, by):
    sidecar = stand.sidecar
    before = stand.descriptors()

    def watched():
        with Others(sidecar.port) as others, Peers(sidecar.port, *HELD_UP_BY[by]):
            sleep(WATCHED_S)
        return others

    assert seen_by(in_time(watched)) == WELL
    assert children_of(sidecar.process.pid) == stand.workers
    # Who has gone is noticed at once, or by the deadline of an answer that was in the way.
    assert sidecar.until(lambda: stand.descriptors() <= before + 4, within_s=15)
