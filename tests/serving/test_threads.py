"""Threads for what may wait: who waits for one, for how long, and what becomes of a call that fails."""

from __future__ import annotations

import asyncio
from functools import partial
from threading import Event, get_ident

import pytest

from sidecar.serving.threads import NoThread, Threads


def run(scenario):
    async def within_a_time():
        return await asyncio.wait_for(scenario(), 10)

    return asyncio.run(within_a_time())


def test_a_call_runs_on_another_thread():
    async def scenario():
        loop = asyncio.get_running_loop()
        return await Threads(1, loop=loop).run(get_ident, deadline=loop.time() + 1)

    assert run(scenario) != get_ident()


def test_who_finds_no_thread_until_their_deadline_is_told_so_and_the_call_is_never_made():
    made, go_on = [], Event()

    async def scenario():
        loop = asyncio.get_running_loop()
        threads = Threads(1, loop=loop)
        first = threads.run(go_on.wait, deadline=loop.time() + 10)
        second = threads.run(lambda: made.append("second"), deadline=loop.time() + 0.05)
        began = loop.time()
        with pytest.raises(NoThread):
            await second
        waited = loop.time() - began
        go_on.set()
        assert await first
        await threads.run(lambda: made.append("third"), deadline=loop.time() + 1)
        return waited

    assert 0.04 < run(scenario) < 1
    assert made == ["third"]


def test_those_who_wait_are_served_in_their_order():
    made: list[int] = []
    go_on = Event()

    async def scenario():
        loop = asyncio.get_running_loop()
        threads = Threads(1, loop=loop)
        held = threads.run(go_on.wait, deadline=loop.time() + 10)
        waiting = [threads.run(partial(made.append, number), deadline=loop.time() + 5) for number in range(5)]
        go_on.set()
        await asyncio.gather(held, *waiting)

    run(scenario)

    assert made == [0, 1, 2, 3, 4]


def test_an_error_reaches_who_asked_and_the_thread_goes_on():
    async def scenario():
        loop = asyncio.get_running_loop()
        threads = Threads(1, loop=loop)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                await threads.run(lambda: 1 // 0, deadline=loop.time() + 1)
        return await threads.run(lambda: "alive", deadline=loop.time() + 1)

    assert run(scenario) == "alive"


def test_a_call_whose_connection_has_gone_is_not_made():
    made, go_on = [], Event()

    async def scenario():
        loop = asyncio.get_running_loop()
        threads = Threads(1, loop=loop)
        held = threads.run(go_on.wait, deadline=loop.time() + 10)
        gone = threads.run(lambda: made.append("gone"), deadline=loop.time() + 5)
        gone.cancel()
        go_on.set()
        await held
        await threads.run(lambda: made.append("next"), deadline=loop.time() + 1)

    run(scenario)

    assert made == ["next"]
