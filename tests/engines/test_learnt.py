"""A server's verdicts, learnt before it forks."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from time import monotonic

import pytest

from sidecar.engines.apart import verdicts_apart
from sidecar.engines.kept import kept_at
from sidecar.engines.learnt import learn_verdicts
from sidecar.engines.verdict import document_of
from sidecar.errors import ConfigError
from tests.engines.sockets import request_on, response, server
from tests.engines.test_apart import ABORTS
from tests.values import FAR_AWAY

pytestmark = pytest.mark.long

NOWHERE = "http://127.0.0.1:1"


def open_sockets() -> int:
    """Of this process."""
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return sum(str(link.readlink()).startswith("socket:") for link in links)


@pytest.mark.opa
def test_opa_teaches_every_cell_and_leaves_neither_thread_nor_connection(
    compiled, all_cells, opa_url, embedded
):
    before = threading.active_count(), open_sockets()

    known = learn_verdicts(compiled, all_cells, engine="opa", opa_url=opa_url, deadline=FAR_AWAY)

    assert known == dict(embedded.verdicts(all_cells, deadline=FAR_AWAY))
    assert (threading.active_count(), open_sockets()) == before


def test_an_opa_that_is_not_there_teaches_nothing_and_a_start_goes_on(compiled, all_cells, caplog):
    known = learn_verdicts(compiled, all_cells, engine="opa", opa_url=NOWHERE, deadline=FAR_AWAY)

    assert known == {}
    assert f"{len(all_cells)} of {len(all_cells)} verdicts are not learnt yet" in caplog.text


def test_a_silent_opa_holds_a_start_up_until_the_deadline_alone(compiled, all_cells):
    def say_nothing(_, heard):
        heard.stopping.wait(20)

    with server(say_nothing) as heard:
        begun = monotonic()
        known = learn_verdicts(compiled, all_cells, engine="opa", opa_url=heard.url, deadline=begun + 0.2)
        took = monotonic() - begun

    assert (known, took < 10) == ({}, True)


def test_what_opa_has_said_before_it_failed_is_known(compiled, all_cells, embedded):
    first = dict(embedded.verdicts(all_cells[:500], deadline=FAR_AWAY))

    def talk(connection, heard):
        request_on(connection, heard)
        if len(heard.bodies) > 1:
            return
        documents = {str(number): document_of(each) for number, each in enumerate(first.values())}
        connection.sendall(response({"result": [{"verdicts": documents}]}))

    with server(talk) as heard:
        known = learn_verdicts(compiled, all_cells, engine="opa", opa_url=heard.url, deadline=monotonic() + 2)

    assert known == first


def test_the_embedded_engine_teaches_every_cell_and_keeps_them(compiled, all_cells, embedded, tmp_path):
    kept = tmp_path / "verdicts"

    known = learn_verdicts(
        compiled, all_cells, engine="embedded", opa_url=NOWHERE, deadline=FAR_AWAY, kept=kept
    )

    assert known == dict(embedded.verdicts(all_cells, deadline=FAR_AWAY))
    assert known == kept_at(kept, engine=f"embedded {embedded.version}", revision=compiled.revision)


def test_what_is_kept_is_not_asked_again_and_what_is_missing_is(compiled, all_cells, tmp_path, monkeypatch):
    kept = tmp_path / "verdicts"
    asked: list[list[bytes]] = []

    def noting(compiled, situations, *, deadline):
        asked.append(situations)
        return verdicts_apart(compiled, situations, deadline=deadline)

    monkeypatch.setattr("sidecar.engines.learnt.verdicts_apart", noting)
    for cells in (all_cells[:10], all_cells[:12], all_cells[:12]):
        known = learn_verdicts(
            compiled, cells, engine="embedded", opa_url=NOWHERE, deadline=FAR_AWAY, kept=kept
        )

        assert list(known) == cells
    assert asked == [all_cells[:10], all_cells[10:12], []]


def test_policies_that_abort_the_engine_do_not_take_a_start_with_them(compiled, all_cells):
    aborting = replace(compiled, modules={"a.rego": ABORTS})

    with pytest.raises(ConfigError, match="end the embedded engine's process"):
        learn_verdicts(aborting, all_cells, engine="embedded", opa_url=NOWHERE, deadline=FAR_AWAY)
