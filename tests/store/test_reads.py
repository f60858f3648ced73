"""Reads that wait together are one query, and each is as strict as if it were asked by itself."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread, Timer
from time import monotonic, sleep

import pytest
import uvloop

from sidecar.errors import FactsMisread, FactsUnavailable
from sidecar.store.connections import Connections, Query
from sidecar.store.postgres import PostgresFacts
from tests.postgres_server import run
from tests.store.proxy import Proxy
from tests.values import the_catalog

pytestmark = pytest.mark.postgres
either_way = pytest.mark.parametrize("plainly", [False, True], ids=["facts", "plain facts"])

SIZE = 4
WITHIN_S = 5.0
AT_ONCE_S = 0.3  # of a busy machine, on top of nothing
ADAM, MIA, STRANGER = ("adam", "acme"), ("mia", "acme"), ("nobody", "acme")


@dataclass(frozen=True)
class Told:
    outcome: object  # the role of each, or the error
    took_s: float


class Asking:
    """A store on the loop that runs, and how many queries it has sent."""

    def __init__(self, url, *, plainly=False, **settings):
        self.queries = 0
        self.plainly = plainly
        self.told = 0
        settings = {"pool_size": SIZE, "statement_timeout_s": 30} | settings
        self.store = PostgresFacts(url, catalog=the_catalog(), observe=self._count, **settings)
        self.loop = asyncio.get_running_loop()
        self.store.open(self.loop)

    def _count(self, _waited_s, _took_s):
        self.queries += 1

    def ask(self, *members, within_s=WITHIN_S):
        """A future of Told."""
        future = self.loop.create_future()
        began = monotonic()
        asking = True

        def done(found, error):
            assert not asking
            self.told += 1
            future.set_result(Told(error or [each and role_in(each) for each in found], monotonic() - began))

        if self.plainly:
            self.store.ask_plain_facts(members, deadline=began + within_s, done=done)
        else:
            self.store.ask(members, None, deadline=began + within_s, done=done)
        asking = False
        return future

    async def found_silent(self):
        """Once the server is found to be silent."""
        while not self.store.connections.silent:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)

    async def connect(self, number=2):
        """So that as many connections are made, by questions of different turns of the loop."""
        asked = []
        for _ in range(number):
            asked.append(self.ask(ADAM))
            await asyncio.sleep(0.001)
        for each in asked:
            assert (await each).outcome == ["admin"]
        self.queries = self.told = 0


def role_in(found):
    return found[0].role if isinstance(found, tuple) else found.role


def on_a_loop(asks, url, *, factory=uvloop.new_event_loop, **settings):
    """What the coroutine *asks* returns, given an Asking."""

    async def opened():
        asking = Asking(url, **settings)
        try:
            return await asyncio.wait_for(asks(asking), timeout=60)
        finally:
            asking.store.close()
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(opened())


@pytest.fixture
def proxy(database_url):
    with Proxy(database_url) as proxy:
        yield proxy


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_questions_of_one_turn_of_the_loop_are_one_query(database_url, factory):
    async def asks(asking):
        await asking.connect()
        told = await asyncio.gather(*(asking.ask(each) for each in (ADAM, MIA, STRANGER) * 20))
        return [each.outcome for each in told], asking.queries

    assert on_a_loop(asks, database_url, factory=factory) == ([["admin"], ["member"], [None]] * 20, 1)


@either_way
def test_a_query_has_at_most_256_pairs_and_a_large_question_is_told_once_all_have_come(database_url, plainly):
    async def asks(asking):
        await asking.connect()
        large = asking.ask(*(ADAM, STRANGER, MIA) * 350)
        small = [asking.ask(ADAM) for _ in range(10)]
        return (await large).outcome, [(await each).outcome for each in small], asking.queries

    large, small, queries = on_a_loop(asks, database_url, plainly=plainly)

    assert large == ["admin", None, "member"] * 350
    assert small == [["admin"]] * 10
    assert queries == 5  # 1,050 pairs, and the small ones with the last of them


def test_nobody_asked_is_nobody_found(database_url):
    async def asks(asking):
        return (await asking.ask()).outcome, asking.queries

    assert on_a_loop(asks, database_url) == ([], 0)


def test_those_who_ask_while_both_queries_are_out_go_together_as_soon_as_one_is_back(proxy):
    async def asks(asking):
        await asking.connect()
        proxy.lag_s = 0.3
        first = asking.ask(ADAM)
        await asyncio.sleep(0.1)
        second = asking.ask(ADAM)
        await asyncio.sleep(0.1)
        gathered = []
        for _ in range(5):  # whose answer comes in one piece
            gathered.append(asking.ask(MIA))
            await asyncio.sleep(0)
        took = [(await each).took_s for each in (first, second, gathered[0], gathered[-1])]
        return took, asking.queries

    (first, second, *gathered), queries = on_a_loop(asks, proxy.url)

    assert queries == 3
    assert max(first, second) < 0.3 + AT_ONCE_S
    assert min(gathered) > 0.35  # 0.1 until the first is back, and 0.3
    assert max(gathered) < 0.4 + AT_ONCE_S


@either_way
@pytest.mark.parametrize("busy", [1, 2])
def test_no_answer_is_from_a_query_that_was_sent_before_its_question(fresh_database_url, busy, plainly):
    """Who was removed before the question is a stranger, though an answer is on its way that knows them."""

    async def asks(asking):
        await asking.connect()
        held_back.lag_s = 0.9
        before = []
        for _ in range(busy):
            before.append(asking.ask(MIA))
            await asyncio.sleep(0.3)  # it is read by now, and its answer held back
        run(fresh_database_url, "DELETE FROM authz.workspace_memberships WHERE user_id = 'mia'")
        assert not any(each.done() for each in before)
        after = [asking.ask(MIA) for _ in range(3)]
        return [(await each).outcome for each in before], [(await each).outcome for each in after]

    with Proxy(fresh_database_url) as held_back:
        before, after = on_a_loop(asks, held_back.url, plainly=plainly)

    assert before == [["member"]] * busy
    assert after == [[None]] * 3


@either_way
def test_each_question_of_a_query_keeps_its_own_deadline(proxy, plainly):
    async def asks(asking):
        await asking.connect()
        accepted = proxy.accepted
        proxy.lag_s = 0.4
        short, long = asking.ask(ADAM, within_s=0.1), asking.ask(MIA)
        told = await short, await long
        return *told, asking.queries, proxy.accepted - accepted

    short, long, queries, connected = on_a_loop(asks, proxy.url, plainly=plainly)

    assert (queries, connected) == (1, 0)
    assert str(short.outcome) == "PostgreSQL did not answer in time: still waiting"
    assert 0.1 <= short.took_s < 0.1 + AT_ONCE_S
    assert long.outcome == ["member"]


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_loop_that_was_late_itself_takes_an_answer_for_an_answer(proxy, factory):
    async def asks(asking):
        await asking.connect()
        accepted = proxy.accepted
        proxy.lag_s = 0.1
        asking.loop.call_later(0.001, sleep, 0.5)  # before the tick, and in the same turn
        asked = asking.ask(ADAM, within_s=0.2)
        asking.loop.call_soon(sleep, 0.05)
        return (await asked).outcome, proxy.accepted - accepted

    assert on_a_loop(asks, proxy.url, factory=factory) == (["admin"], 0)


def test_who_waits_for_a_query_keeps_their_deadline_too(proxy):
    async def asks(asking):
        await asking.connect()
        proxy.lag_s = 0.4
        first = asking.ask(ADAM)
        await asyncio.sleep(0.001)
        second = asking.ask(ADAM)
        await asyncio.sleep(0.001)
        return await asking.ask(ADAM, within_s=0.1), await first, await second

    waits, first, second = on_a_loop(asks, proxy.url)

    assert "busy" in str(waits.outcome)
    assert 0.1 <= waits.took_s < 0.1 + AT_ONCE_S
    assert first.outcome == second.outcome == ["admin"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_silent_connection_holds_up_only_those_who_are_on_it(proxy, number):
    async def asks(asking):
        await asking.connect()
        accepted = proxy.accepted
        proxy.silence(number)
        asked = []
        for _ in range(100):
            asked.append(asking.ask(ADAM, within_s=0.5))
            await asyncio.sleep(0.01)
        return [await each for each in asked], proxy.accepted - accepted

    told, connected = on_a_loop(asks, proxy.url)
    late = [each for each in told if each.outcome != ["admin"]]

    assert len(late) <= 2
    assert all("in time" in str(each.outcome) for each in late)
    assert connected <= 2  # in place of the one that was dropped, and the test of the server


def test_of_many_who_ask_a_silent_server_one_waits_and_the_others_do_not(proxy):
    async def asks(asking):
        await asking.connect()
        proxy.silent = True
        assert "in time" in str((await asking.ask(ADAM, within_s=0.3)).outcome)
        await asking.found_silent()
        told = await asyncio.gather(*(asking.ask(ADAM, within_s=0.5) for _ in range(50)))
        proxy.cut()
        proxy.silent = False
        healed = [(await asking.ask(ADAM)).outcome for _ in range(3)]
        return told, healed

    told, healed = on_a_loop(asks, proxy.url)
    waited = [each for each in told if "silent" not in str(each.outcome)]

    assert len(waited) == 1
    assert sum(each.took_s < AT_ONCE_S for each in told) == 49
    assert healed == [["admin"]] * 3


@contextmanager
def facts_where(url, condition, outcome):
    """Both reads say *outcome* of each user that fulfils *condition*, and else what they say."""
    row = f"CASE WHEN {condition} THEN {outcome} ELSE found -> (i - 1) END"
    run(
        url,
        "ALTER FUNCTION authz.facts_for(text[], text[], text[]) RENAME TO real_facts",
        f"""CREATE FUNCTION authz.facts_for(users text[], workspaces text[], meters text[]) RETURNS json
        LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE found json := authz.real_facts(users, workspaces, meters);
        BEGIN
            RETURN (SELECT json_agg({row} ORDER BY i) FROM generate_subscripts(users, 1) AS i);
        END $$""",
        "GRANT EXECUTE ON FUNCTION authz.facts_for(text[], text[], text[]) TO authz_sidecar",
        "ALTER FUNCTION authz.plain_facts(text[], text[]) RENAME TO real_plain_facts",
        f"""CREATE FUNCTION authz.plain_facts(users text[], workspaces text[]) RETURNS json
        LANGUAGE plpgsql SECURITY DEFINER AS $$
        DECLARE
            whole json := authz.real_plain_facts(users, workspaces);
            found json := whole -> 'rows';
        BEGIN
            RETURN json_build_object('at', whole -> 'at', 'rows', (
                SELECT json_agg({row} ORDER BY i) FROM generate_subscripts(users, 1) AS i
            ));
        END $$""",
        "GRANT EXECUTE ON FUNCTION authz.plain_facts(text[], text[]) TO authz_sidecar",
    )
    yield


@either_way
def test_a_row_that_cannot_be_read_fails_one_question(fresh_database_url, plainly):
    async def asks(asking):
        await asking.connect()
        asked = (
            asking.ask(ADAM),
            asking.ask(("bad", "acme")),
            asking.ask(MIA, ("bad", "acme")),
            asking.ask(MIA),
        )
        return [(await each).outcome for each in asked], asking.queries

    with facts_where(fresh_database_url, "users[i] = 'bad'", """'{"role": 7}'::json"""):
        (adam, bad, also_bad, mia), queries = on_a_loop(asks, fresh_database_url, plainly=plainly)

    assert queries == 1
    assert (adam, mia) == (["admin"], ["member"])
    assert isinstance(bad, FactsMisread)
    assert isinstance(also_bad, FactsMisread)


@either_way
def test_a_question_that_postgresql_refuses_fails_alone_and_the_others_are_asked_once_more(
    fresh_database_url, plainly
):
    async def asks(asking):
        await asking.connect()
        asked = [asking.ask(each) for each in (ADAM, ("zero", "acme"), MIA, STRANGER)]
        return [(await each).outcome for each in asked], asking.queries

    with facts_where(fresh_database_url, "users[i] = 'zero'", "to_json(1 / (i - i))"):
        (adam, zero, mia, stranger), queries = on_a_loop(asks, fresh_database_url, plainly=plainly)

    assert (adam, mia, stranger) == (["admin"], ["member"], [None])
    assert isinstance(zero, FactsUnavailable)
    assert "22012" in str(zero)
    assert queries == 1 + 4


def test_who_was_refused_is_asked_about_alone_and_costs_others_nothing_until_it_is_well(fresh_database_url):
    async def asks(asking):
        await asking.connect()
        told = []
        for _ in range(3):
            asked = [asking.ask(each) for each in [ADAM] * 30 + [("zero", "acme")] + [MIA] * 33]
            outcomes = [(await each).outcome for each in asked]
            told.append((outcomes.count(["admin"]), outcomes.count(["member"]), asking.queries))
            asking.queries = 0
        run(
            fresh_database_url,
            "DROP FUNCTION authz.facts_for(text[], text[], text[])",
            "ALTER FUNCTION authz.real_facts(text[], text[], text[]) RENAME TO facts_for",
        )
        well = []
        for _ in range(2):
            asked = [asking.ask(each) for each in (ADAM, ("zero", "acme"), MIA)]
            outcomes = [(await each).outcome for each in asked]
            well.append((outcomes, asking.queries))
            asking.queries = 0
        return told, well

    with facts_where(fresh_database_url, "users[i] = 'zero'", "to_json(1 / (i - i))"):
        told, well = on_a_loop(asks, fresh_database_url)

    by_halves = 1 + 2 * 6  # of 64
    assert told == [(30, 33, by_halves), (30, 33, 2), (30, 33, 2)]
    assert well == [([["admin"], [None], ["member"]], 2), ([["admin"], [None], ["member"]], 1)]


def test_nobody_is_kept_waiting_by_many_who_are_refused(fresh_database_url):
    async def asks(asking):
        await asking.ask(("zero", "acme"))
        asking.queries = 0
        bad = [asking.ask(("zero", "acme")) for _ in range(200)]
        good = [asking.ask(ADAM) for _ in range(5)]
        for each in good:
            assert (await each).outcome == ["admin"]
        queries = asking.queries
        assert {type((await each).outcome) for each in bad} == {FactsUnavailable}
        return queries

    with facts_where(fresh_database_url, "users[i] = 'zero'", "to_json(1 / (i - i))"):
        for connections in (2, 1):
            assert on_a_loop(asks, fresh_database_url, pool_size=connections) < 50


def test_a_group_whose_connection_broke_while_idle_is_asked_again(proxy):
    async def asks(asking):
        await asking.connect()
        asking.loop.call_soon(proxy.cut)
        asking.loop.call_soon(sleep, 0.05)  # so that the loop hears of it only when the questions are sent
        told = await asyncio.gather(*(asking.ask(each) for each in (ADAM, MIA) * 10))
        return [each.outcome for each in told]

    assert on_a_loop(asks, proxy.url) == [["admin"], ["member"]] * 10


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_connection_that_ends_together_with_its_answer_is_used_no_more(proxy, factory):
    async def asks(asking):
        await asking.connect(1)
        cut = Timer(0.1, proxy.cut)
        cut.start()
        first = asking.ask(ADAM)
        asking.loop.call_soon(sleep, 0.2)  # so that the loop finds both at once
        answered = (await first).outcome
        cut.join()
        return answered, await asking.ask(ADAM)

    first, second = on_a_loop(asks, proxy.url, factory=factory)

    assert first == ["admin"]
    assert second.outcome == ["admin"]
    assert second.took_s < 1


def test_no_more_than_4096_pairs_wait(proxy):
    async def asks(asking):
        proxy.silent = True
        first = [asking.ask(*[ADAM] * 256, within_s=0.5) for _ in range(2)]
        await asyncio.sleep(0.01)
        waiting = [asking.ask(ADAM, within_s=0.5) for _ in range(4096)]
        one_more = await asking.ask(ADAM, within_s=0.5)
        told = await asyncio.gather(*first, *waiting)
        return one_more, told

    one_more, told = on_a_loop(asks, proxy.url)

    assert "too many" in str(one_more.outcome)
    assert one_more.took_s < AT_ONCE_S
    assert len(told) == 4098
    assert all(isinstance(each.outcome, FactsUnavailable) for each in told)
    assert all("too many" not in str(each.outcome) for each in told)


@either_way
def test_a_store_that_is_closed_meanwhile_tells_everybody(proxy, plainly):
    async def asks(asking):
        await asking.connect()
        proxy.lag_s = 1.0
        asked = []
        for _ in range(3):
            asked += [asking.ask(*[ADAM] * 200), asking.ask(*[MIA] * 200)]
            await asyncio.sleep(0.001)
        asking.store.close()
        told = await asyncio.gather(*asked)
        afterwards = await asking.ask(ADAM)
        return [*told, afterwards], asking.told

    told, times = on_a_loop(asks, proxy.url, plainly=plainly)

    assert times == 7  # each once
    assert all("closed" in str(each.outcome) and each.took_s < 1.0 for each in told)


def test_a_close_from_another_thread_ends_those_who_block(database_url, proxy):
    store = PostgresFacts(proxy.url, catalog=the_catalog(), pool_size=SIZE)
    store.open()
    store.facts([ADAM], deadline=monotonic() + WITHIN_S)
    proxy.lag_s = 1.0
    said = []

    def ask():
        try:
            store.facts([ADAM], deadline=monotonic() + WITHIN_S)
        except FactsUnavailable as error:
            said.append(str(error))

    threads = [Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
        sleep(0.01)
    store.close()
    for thread in threads:
        thread.join(0.9)

    assert len(said) == 8
    assert all("closed" in each for each in said)


def test_who_asks_for_much_over_a_slow_network_holds_up_nobody(proxy):
    """What the socket does not take at once is sent as soon as it does."""
    long = "long" * 10_000

    async def asks(asking):
        await asking.connect()
        proxy.slow_s = 0.005
        large = asking.ask(*[(long, "acme")] * 256, within_s=30)
        longest, last = 0.0, monotonic()
        while not large.done():
            await asyncio.sleep(0.001)
            longest, last = max(longest, monotonic() - last), monotonic()
            small = await asking.ask(ADAM)
            assert small.outcome == ["admin"]
        return await large, longest

    large, longest = on_a_loop(asks, proxy.url)

    assert large.outcome == [None] * 256
    assert large.took_s > 0.5
    assert longest < AT_ONCE_S


def test_who_would_wait_for_their_own_loop_is_told_so(database_url):
    async def asks(asking):
        with pytest.raises(RuntimeError, match="ask"):
            asking.store.facts([ADAM], deadline=monotonic() + WITHIN_S)
        with pytest.raises(RuntimeError, match="ask"):
            asking.store.revision(deadline=monotonic() + WITHIN_S)

    on_a_loop(asks, database_url)


def test_a_loop_that_does_not_run_keeps_nobody_waiting(database_url):
    loop = asyncio.new_event_loop()
    store = PostgresFacts(database_url, catalog=the_catalog(), pool_size=SIZE)
    store.open(loop)
    began = monotonic()

    with pytest.raises(FactsUnavailable, match="loop does not run"):
        store.facts([ADAM], deadline=began + 0.1)

    took_s = monotonic() - began
    store.close()
    loop.close()
    assert took_s < 0.1 + 0.5 + AT_ONCE_S


def test_a_store_can_be_opened_again(database_url):
    store = PostgresFacts(database_url, catalog=the_catalog(), pool_size=SIZE)
    for _ in range(2):
        store.open()
        [found] = store.facts([ADAM], deadline=monotonic() + WITHIN_S)
        store.close()

        assert found is not None
        with pytest.raises(FactsUnavailable, match="closed"):
            store.facts([ADAM], deadline=monotonic() + WITHIN_S)


BACKEND = Query(name=b"backend", sql=b"SELECT pg_backend_pid()::text", repeatable=False)


def test_a_question_that_is_never_sent_twice_is_not_sent_to_whom_has_gone(database_url):
    """Although the loop has not heard of it yet."""

    async def asks():
        loop = asyncio.get_running_loop()
        pool = Connections(database_url, size=1, statement_timeout_s=5)
        pool.open(loop)
        backends = []
        for _ in range(3):
            future = loop.create_future()

            def done(value, error, future=future):
                future.set_result(error or value)

            pool.ask(BACKEND, (), deadline=monotonic() + WITHIN_S, done=done)
            backends.append(await future)
            run(database_url, f"SELECT pg_terminate_backend({int(backends[-1])}, 5000)")
        pool.close()
        await asyncio.sleep(0)
        return backends

    assert len(set(asyncio.run(asks()))) == 3


def test_an_idle_session_whose_server_has_gone_is_closed_without_a_question(database_url):
    pool = Connections(database_url, size=1, statement_timeout_s=5)
    pool.open()
    backend = pool.answer(BACKEND, (), deadline=monotonic() + WITHIN_S) or b""
    fewer = len(sockets())
    run(database_url, f"SELECT pg_terminate_backend({int(backend)}, 5000)")

    began = monotonic()
    while len(sockets()) >= fewer and monotonic() - began < WITHIN_S:
        sleep(0.01)
    left = len(sockets())
    pool.close()

    assert left == fewer - 1


def sockets():
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(each.readlink())
    return {each for each in found if str(each).startswith("socket:")}
