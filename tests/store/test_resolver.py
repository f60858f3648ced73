"""Where a name leads while no name server answers."""

from __future__ import annotations

from threading import Event
from time import monotonic

import pytest

from sidecar.store.resolver import EVERY_S, Resolver
from sidecar.store.session import Late, Lost


class Host:
    """As a host that is a name. *says* is what the name server answers; None: nothing, until *gives_up*."""

    name = "db.example"
    is_name = True

    def __init__(self):
        self.says: list[str] | Exception | None = ["192.0.2.1"]
        self.gives_up = Event()
        self.asked = 0

    def addresses(self):
        self.asked += 1
        if self.says is None:
            self.gives_up.wait(20)
            raise Late("no name server answers")
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


@pytest.fixture
def clock(monkeypatch):
    """Moved by hand."""
    now = [100.0]
    monkeypatch.setattr("sidecar.store.resolver.monotonic", lambda: now[0])
    return now


@pytest.fixture
def host():
    host = Host()
    yield host
    host.gives_up.set()


def test_while_no_name_server_answers_a_name_leads_to_where_it_led_and_nobody_waits_long(host):
    resolver = Resolver()
    assert resolver.addresses(host) == ["192.0.2.1"]
    host.says = None
    Event().wait(EVERY_S + 0.05)

    began = monotonic()
    assert [resolver.addresses(host) for _ in range(100)] == [["192.0.2.1"]] * 100
    assert monotonic() - began < 2.0  # the first alone waits, for half a second
    assert host.asked == 2
    host.gives_up.set()
    assert resolver.addresses(host) == ["192.0.2.1"]


def test_a_new_address_is_taken_within_a_second(host, clock):
    resolver = Resolver()
    resolver.addresses(host)
    host.says = ["192.0.2.2"]
    assert resolver.addresses(host) == ["192.0.2.1"]
    clock[0] += EVERY_S + 0.01
    assert resolver.addresses(host) == ["192.0.2.2"]


def test_a_name_that_is_gone_leads_nowhere_also_afterwards(host, clock):
    resolver = Resolver()
    resolver.addresses(host)
    host.says = Lost("there is no such name")
    clock[0] += EVERY_S + 0.01
    with pytest.raises(Lost, match="no such name"):
        resolver.addresses(host)
    host.says, clock[0] = Late("no name server answers"), clock[0] + EVERY_S + 0.01
    with pytest.raises(Late):
        resolver.addresses(host)


def test_what_is_not_known_is_waited_for(host):
    host.says = None
    host.gives_up.set()
    with pytest.raises(Late):
        Resolver().addresses(host)
