"""What is locked, silent, broken or gone holds up nobody else: over HTTP, for checks and for consumes."""

from __future__ import annotations

import json
from asyncio import sleep as nap
from contextlib import ExitStack, contextmanager
from time import sleep
from typing import Any

import psycopg
import pytest

from tests.postgres_server import rows, run
from tests.serving.meanwhile import Clients, Others, request
from tests.serving.peers import Peer, Peers, resetting
from tests.serving.serving import LANE, serving
from tests.serving.stand import WELL, in_time, seen_by
from tests.serving.talk import talking
from tests.store.proxy import Proxy

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

DEADLINE_S = 1.0
WATCHED_S = 1.5
APART_S = 0.3  # then clients that began together are not in step any more
SLOWER_S = 0.1  # may others be by, at their 99th percentile; and by the noise of the machine
KEPT, FRESH = 10, 2
in_the_lane = pytest.mark.skipif(
    LANE == "off", reason="each who waits for PostgreSQL has one of four threads"
)
ON_IT = (KEPT + FRESH) // 2  # of the clients, at most, have a question in one query
LOCKED = tuple(f"locked{number}" for number in range(6))
MUCH = 10**9
NEW_PLACE = """
    WITH w AS (INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'W', 'team') RETURNING id),
    o AS (INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
          SELECT id, 'limit', 'minutes', %s FROM w)
    INSERT INTO authz.workspace_memberships SELECT id, unnest(ARRAY['mia', 'bad', 'zero']), 'member' FROM w
"""
LEDGER = """
    SELECT l.amount, l.decision_id FROM authz.usage_ledger AS l
    JOIN authz.workspaces AS w ON w.id = l.workspace_id WHERE w.slug = %s
"""
# As the real one, but for rows of two users.
BROKEN = (
    "ALTER FUNCTION authz.facts_for(text[], text[], text[]) RENAME TO real_facts",
    """CREATE FUNCTION authz.facts_for(users text[], workspaces text[], meters text[]) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE found json := authz.real_facts(users, workspaces, meters);
    BEGIN
        IF 'zero' = ANY (users) THEN RETURN to_json(1 / (cardinality(users) * 0)); END IF;
        IF NOT 'bad' = ANY (users) THEN RETURN found; END IF;
        RETURN (
            SELECT json_agg(
                CASE WHEN users[i] = 'bad' THEN '{"role": 7}'::json ELSE found -> (i - 1) END ORDER BY i
            )
            FROM generate_subscripts(users, 1) AS i
        );
    END $$""",
    "GRANT EXECUTE ON FUNCTION authz.facts_for(text[], text[], text[]) TO authz_sidecar",
    "ALTER FUNCTION authz.plain_facts(text[], text[]) RENAME TO real_plain_facts",
    """CREATE FUNCTION authz.plain_facts(users text[], workspaces text[]) RETURNS json
    LANGUAGE plpgsql SECURITY DEFINER AS $$
    DECLARE found json := authz.real_plain_facts(users, workspaces);
    BEGIN
        IF 'zero' = ANY (users) THEN RETURN to_json(1 / (cardinality(users) * 0)); END IF;
        IF NOT 'bad' = ANY (users) THEN RETURN found; END IF;
        RETURN json_build_object('at', found -> 'at', 'rows', '[7]'::json);
    END $$""",
    "GRANT EXECUTE ON FUNCTION authz.plain_facts(text[], text[]) TO authz_sidecar",
)
WHOLE = (
    "DROP FUNCTION authz.facts_for(text[], text[], text[])",
    "ALTER FUNCTION authz.real_facts(text[], text[], text[]) RENAME TO facts_for",
    "DROP FUNCTION authz.plain_facts(text[], text[])",
    "ALTER FUNCTION authz.real_plain_facts(text[], text[]) RENAME TO plain_facts",
)


def question(mode, *, user="mia", workspace="others", **more):
    """*mode* "plain": a check of an action that takes nothing."""
    asked = {"user": user, "workspace": workspace}
    if mode == "plain":
        asked |= {"action": "platform.use"}
    else:
        asked |= {"action": "recording.start", "mode": mode, **more}
    return request("POST", "/v1/authorize", json.dumps(asked).encode())


@pytest.fixture(scope="module")
def proxy(database):
    for place in ("others", "gone", *LOCKED):
        rows(database, NEW_PLACE, place, MUCH)
    with Proxy(database) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def sidecar(proxy, opa, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sidecar")
    settings = {"database_url": proxy.url, "opa_url": opa.url, "deadline_ms": int(1_000 * DEADLINE_S)}
    with serving(folder, workers=1, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        for workspace in ("others", *LOCKED):  # there is a counter to be locked
            assert sidecar.ask(user="mia", workspace=workspace, mode="consume")[0] == 200
        yield sidecar


def watched(sidecar, what, trouble, *, may_be_late=0):
    """What others see who ask *what* while *trouble*() goes on, compared with what they saw before.

    So many of their questions, *may_be_late*, count neither as slow nor as unanswered; then it begins while
    they ask, since those who begin together are together in one query.
    """

    def once():
        with Others(sidecar.port, what, kept=KEPT, fresh=FRESH) as before:
            sleep(WATCHED_S)
        with ExitStack() as stack:
            if not may_be_late:
                stack.enter_context(trouble())
            others = stack.enter_context(Others(sidecar.port, what, kept=KEPT, fresh=FRESH))
            if may_be_late:
                sleep(APART_S)
                stack.enter_context(trouble())
            sleep(WATCHED_S)
        slower.append(slower_by(before.seen, others.seen, but=may_be_late))
        nobody_met_it = may_be_late and set(others.seen.answers) == {"200"}
        if slower[-1] != "no" or nobody_met_it:
            others.seen.waits.append(10.0)  # for in_time to try once more
        return others

    slower: list[object] = []
    others = in_time(once)
    told = seen_by(others, worst_s=DEADLINE_S + 1) | {"slower": slower[-1]}
    failed = others.seen.answers.total() - others.seen.answers["200"]
    if failed <= may_be_late:
        told["answers"] = {"200"}
    return told | {"failed": failed > 0}


def slower_by(before, seen, *, but):
    """The seconds by which the 99th percentile is, or "no"."""
    waits = sorted(seen.waits)[: len(seen.waits) - but]
    p99_s = waits[int(len(waits) * 0.99)]
    may_be_s = before.p99_s + SLOWER_S + 3 * (before.noise_s + seen.noise_s)
    return "no" if p99_s <= may_be_s else (before.p99_s, p99_s)


NOTHING_SEEN = WELL | {"slower": "no", "failed": False}


@contextmanager
def locked_workspaces(sidecar, database):
    """Somebody holds the locks of six, where twelve clients want to consume: more than may wait for locks."""
    with psycopg.connect(database) as connection, ExitStack() as stack:
        connection.execute("SELECT 1 FROM authz.workspaces WHERE slug = ANY (%s) FOR UPDATE", (list(LOCKED),))
        connection.execute(
            """SELECT 1 FROM authz.workspace_usage WHERE workspace_id IN
            (SELECT id FROM authz.workspaces WHERE slug = ANY (%s)) FOR UPDATE""",
            (list(LOCKED),),
        )
        held = [
            stack.enter_context(Clients(sidecar.port, question("consume", workspace=each), kept=2))
            for each in LOCKED
        ]
        yield
        connection.rollback()
        stack.close()
        for each in held:
            assert set(each.seen.answers) <= {"503 usage_contended", "200"}
            assert each.seen.answers["503 usage_contended"]
            assert each.seen.lost == []


@in_the_lane
@pytest.mark.parametrize("mode", ["check", "consume", "plain"])
def test_a_workspace_that_is_locked_holds_up_nobody_else(sidecar, database, mode):
    told = watched(sidecar, question(mode), lambda: locked_workspaces(sidecar, database))

    assert told == NOTHING_SEEN


@contextmanager
def broken_rows(sidecar, database, user):
    run(database, *BROKEN)
    try:
        with (
            Clients(sidecar.port, question("check", user=user), kept=2) as checks,
            Clients(sidecar.port, question("consume", user=user), kept=2) as consumes,
            Clients(sidecar.port, question("plain", user=user), kept=2) as plain,
        ):
            yield
    finally:
        run(database, *WHOLE)
    expected = {"503 facts_misread"} if user == "bad" else {"503 facts_unavailable"}
    assert (set(checks.seen.answers), checks.seen.lost) == (expected, [])
    assert (set(consumes.seen.answers), consumes.seen.lost) == (expected, [])
    assert (set(plain.seen.answers), plain.seen.lost) == (expected, [])


@pytest.mark.parametrize("user", ["bad", "zero"])
@pytest.mark.parametrize("mode", ["check", "consume", "plain"])
def test_a_row_that_is_broken_holds_up_nobody_else(sidecar, database, mode, user):
    told = watched(sidecar, question(mode), lambda: broken_rows(sidecar, database, user))

    assert told == NOTHING_SEEN


def goes(content):
    """Sends it whole, and is gone before the answer."""

    async def acts(line):
        await line.send(content)
        await nap(0.05)
        line.reset()

    return Peer(acts=acts)


@in_the_lane
@pytest.mark.parametrize("mode", ["check", "consume", "plain"])
def test_a_connection_to_postgresql_that_is_silent_holds_up_only_who_is_on_it(sidecar, proxy, mode):
    """It is the one that was used last: for facts, or to take; and so the one that is used next."""

    @contextmanager
    def trouble():
        asked = {} if mode == "plain" else {"mode": mode}
        assert sidecar.ask(user="mia", workspace="others", **asked)[0] == 200
        proxy.silence_last()
        yield

    told = watched(sidecar, question(mode), trouble, may_be_late=ON_IT)

    assert told == NOTHING_SEEN | {"failed": True}


@pytest.mark.parametrize("mode", ["check", "consume"])
def test_clients_that_go_in_the_middle_hold_up_nobody_else(sidecar, mode):
    goes = [resetting(question("check")), resetting(question("consume"))] * 3

    @contextmanager
    def trouble():
        with Peers(sidecar.port, *goes):
            yield

    assert watched(sidecar, question(mode), trouble) == NOTHING_SEEN


@contextmanager
def locked(database, workspace):
    with psycopg.connect(database) as connection:
        connection.execute("SELECT 1 FROM authz.workspaces WHERE slug = %s FOR UPDATE", (workspace,))
        yield
        connection.rollback()


def lines_about(sidecar, keys):
    """Of each key, as an id of requests: the lines of the decision log, in order."""
    found: dict[str, list[Any]] = {key: [] for key in keys}
    for line in (sidecar.folder / "stdout").read_text().splitlines(keepends=True):
        if '"gone-' in line and line.endswith("\n"):
            read = json.loads(line)
            found.setdefault(read["request_id"], []).append(read)
    return [found[key] for key in keys]


# Without the lane there are four threads, and for who has gone while they waited for one nothing is done.
@pytest.mark.parametrize("times", [1, 20 if LANE == "on" else 3])
def test_who_has_gone_while_they_consume_is_charged_once_and_their_retry_is_a_replay(
    sidecar, database, proxy, times
):
    """The workspace is locked meanwhile, so that nobody has their answer before they go."""
    keys = [f"gone-{times}-{number}" for number in range(times)]
    asked = [
        question("consume", workspace="gone", idempotency_key=key).replace(
            b"Host:", b"X-Request-ID: %b\r\nHost:" % key.encode()
        )
        for key in keys
    ]
    before = len(rows(database, LEDGER, "gone"))
    with locked(database, "gone"):
        with Peers(sidecar.port, *[goes(each) for each in asked]):
            sleep(0.2)
        assert len(rows(database, LEDGER, "gone")) == before
    assert sidecar.until(lambda: all(lines_about(sidecar, keys)), within_s=10)
    with talking(sidecar) as talk:
        retried = []
        for each in asked:
            talk.send(each)
            retried.append(talk.answer().json)

    charged = rows(database, LEDGER, "gone")[before:]
    assert sorted(charged) == sorted((1, answer["decision_id"]) for answer in retried)
    assert all(answer["allow"] and answer["replayed"] for answer in retried)
    assert sidecar.until(lambda: all(len(each) == 2 for each in lines_about(sidecar, keys)), within_s=10)
    for (first, second), answer in zip(lines_about(sidecar, keys), retried, strict=True):
        assert (first["allow"], first.get("replayed", False)) == (True, False)
        assert (second["allow"], second["replayed"]) == (True, True)
        assert first["decision_id"] == second["decision_id"] == answer["decision_id"]
