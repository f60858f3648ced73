"""Consumes that race for quota over HTTP, while their connections and those to PostgreSQL are killed.

`python -m tests.serving.race ORDER`: clients in a process of their own. Two in three attempts have a key, and
are repeated until there is an answer, whatever was lost; some of these keys others use at the same time. What
has no key is sent once.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, Self

import psycopg
import uvloop

from tests.postgres_server import rows
from tests.serving.meanwhile import request
from tests.serving.quick import Quick, in_processes

if TYPE_CHECKING:
    from types import TracebackType

CONNECTIONS, PROCESSES = 64, 2
LARGEST = 7
SHARED, OWN = 0.2, 0.47  # of all attempts: under a key that others use too, under one of their own
USERS_OF_A_KEY = 4  # in each process
KILLED = 0.05  # of all attempts: the connection, at some moment until the answer
LONGEST_S = 0.01
MOST_REPEATS = 100
PLACES = {"hot": 0.5, "warm": 0.3, "cool": 0.2}  # how many of the attempts are for each
TERMINATED_EVERY_S = 0.4
_numbers = count(1)
NEW_PLACE = """
    WITH w AS (INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'Race', 'team') RETURNING id),
    o AS (INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
          SELECT id, 'limit', 'minutes', %s FROM w)
    INSERT INTO authz.workspace_memberships SELECT id, unnest(%s::text[]), 'member' FROM w
"""
SUMS = """
    SELECT COALESCE((SELECT used FROM authz.workspace_usage WHERE workspace_id = w.id), 0),
        COALESCE((SELECT sum(amount)::bigint FROM authz.usage_ledger WHERE workspace_id = w.id), 0),
        (SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = w.id AND user_id = 'keyed'),
        (SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = w.id AND user_id = 'loose'),
        (SELECT count(*) FROM authz.miscounts(w.id))
    FROM authz.workspaces AS w WHERE w.slug = %s
"""
TAKEN = """
    SELECT k.key, k.decision_id, (
        SELECT array_agg(l.amount) FROM authz.usage_ledger AS l
        WHERE l.workspace_id = k.workspace_id AND l.decision_id = k.decision_id
    )
    FROM authz.usage_keys AS k JOIN authz.workspaces AS w ON w.id = k.workspace_id WHERE w.slug = %s
"""
# Of the sidecar: everybody else on this database but ourselves.
TERMINATE = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    ORDER BY random() LIMIT 1
"""


@dataclass
class Raced:
    """What came of all attempts, and *wrong*: what does not add up, if anything."""

    attempts: int = 0
    heard: Counter[str] = field(default_factory=Counter)
    killed: int = 0
    terminated: int = 0
    taken: int = 0  # units
    wrong: list[str] = field(default_factory=list)

    def __iadd__(self, other: Raced) -> Self:
        self.attempts += other.attempts
        self.heard.update(other.heard)
        self.killed += other.killed
        self.terminated += other.terminated
        self.taken += other.taken
        self.wrong += other.wrong
        return self


class Killer:
    """Ends a connection of the sidecar to PostgreSQL again and again, until the context is left."""

    def __init__(self, database_url: str) -> None:
        self.terminated = 0
        self._ends = Event()
        self._url = database_url
        self._thread = Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._ends.wait(TERMINATED_EVERY_S):
                self.terminated += len(connection.execute(TERMINATE).fetchall())


def raced(port: int, database_url: str, *, attempts: int, within_s: float) -> Raced:
    """In workspaces of its own, where there is about half of what is asked for."""
    name = f"race{next(_numbers)}"
    limits = {
        f"{name}-{place}": int(attempts * share * (1 + LARGEST) / 2 / 2) for place, share in PLACES.items()
    }
    for place, limit in limits.items():
        rows(database_url, NEW_PLACE, place, limit, ["keyed", "loose"])
    order: dict[str, Any] = {
        "port": port, "name": name, "attempts": -(-attempts // PROCESSES),
        "connections": CONNECTIONS // PROCESSES,
    }  # fmt: skip
    orders = [order | {"number": number} for number in range(PROCESSES)]
    with Killer(database_url) as killer:
        said = in_processes("tests.serving.race", orders, within_s=within_s)
    result = Raced(terminated=killer.terminated)
    for each in said:
        result.attempts += each["attempts"]
        result.heard.update(each["heard"])
        result.killed += each["killed"]
        result.wrong += each["wrong"]
    for place, limit in limits.items():
        result.wrong += _wrong_at(place, limit, database_url, [each["places"][place] for each in said])
        result.taken += rows(database_url, SUMS, place)[0][0]
    return result


def _wrong_at(place: str, limit: int, database_url: str, heard: list[dict[str, Any]]) -> list[str]:
    [(used, booked, keyed, loose, miscounts)] = rows(database_url, SUMS, place)
    granted: dict[str, tuple[str, int]] = {}
    loose_granted = sum(each["loose"] for each in heard)
    loose_unknown = sum(each["unknown"] for each in heard)
    wrong = []
    for each in heard:
        for key, (decision_id, amount) in each["granted"].items():
            if granted.setdefault(key, (decision_id, amount)) != (decision_id, amount):
                wrong.append(f"{place}: {key} was granted by {decision_id} and by {granted[key][0]}")
    taken = {key: (decision, amounts) for key, decision, amounts in rows(database_url, TAKEN, place)}
    if taken != {key: (decision, [amount]) for key, (decision, amount) in granted.items()}:
        odd = [key for key in taken.keys() | granted.keys() if taken.get(key) is None or key not in granted]
        wrong.append(f"{place}: taken and granted are not the same: {odd[:5]}")
    if keyed != len(granted):
        wrong.append(f"{place}: {keyed} lines of the ledger for {len(granted)} keys")
    if not loose_granted <= loose <= loose_granted + loose_unknown:
        wrong.append(f"{place}: {loose} without a key, {loose_granted} were told, {loose_unknown} not")
    if used > limit or used != booked or miscounts:
        wrong.append(f"{place}: {used} of {limit} used, {booked} booked, {miscounts} miscounts")
    if used <= limit - LARGEST:
        wrong.append(f"{place}: only {used} of {limit} were used, though more was asked for")
    return wrong


class Racers:
    """Of one process. Its shared keys are those of all processes, in the same order."""

    def __init__(self, *, port: int, name: str, number: int, attempts: int, connections: int) -> None:
        self._port, self._number, self._left, self._connections = port, number, attempts, connections
        self._chance = random.Random(f"{name}-{number}")  # noqa: S311 - the same each time
        self._shared = count()
        self._places = [f"{name}-{place}" for place in PLACES]
        self.said: dict[str, Any] = {"attempts": 0, "heard": Counter(), "killed": 0, "wrong": []}
        self.said["places"] = {
            place: {"granted": {}, "loose": 0, "unknown": 0} for place in self._places
        }  # fmt: skip

    async def run(self) -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            for _ in range(self._connections):
                group.create_task(self._race())
        return self.said

    async def _race(self) -> None:
        client = Quick(self._port)
        while self._left > 0:
            self._left -= 1
            self.said["attempts"] += 1
            kind = self._chance.random()
            if kind < SHARED:
                number = next(self._shared) // USERS_OF_A_KEY
                of_key = random.Random(number)  # noqa: S311 - the same for all who use the key
                await self._keyed(client, f"shared-{number}", of_key)
            elif kind < SHARED + OWN:
                await self._keyed(client, f"{self._number}-{self._left}", self._chance)
            else:
                await self._loose(client)
        client.close()

    def _content(self, chance: random.Random, key: str | None) -> tuple[str, int, bytes]:
        [place] = chance.choices(self._places, list(PLACES.values()))
        amount = chance.randint(1, LARGEST)
        question = {
            "user": "keyed" if key else "loose", "workspace": place, "action": "recording.start",
            "mode": "consume", "amounts": {"minutes": amount},
        }  # fmt: skip
        if key:
            question["idempotency_key"] = key
        return place, amount, request("POST", "/v1/authorize", json.dumps(question).encode())

    async def _keyed(self, client: Quick, key: str, chance: random.Random) -> None:
        place, amount, content = self._content(chance, key)
        for _ in range(MOST_REPEATS):
            answer = await self._answer(client, content)
            if answer is not None:
                break
        else:
            self.said["wrong"].append(f"{place}: {key} was never answered")
            return
        if answer["allow"]:
            granted = self.said["places"][place]["granted"]
            told = answer["decision_id"], amount
            if granted.setdefault(key, told) != told:
                self.said["wrong"].append(f"{place}: {key} was granted by {granted[key]} and by {told}")

    async def _loose(self, client: Quick) -> None:
        place, _, content = self._content(self._chance, None)
        answer = await self._answer(client, content)
        if answer is None:
            self.said["places"][place]["unknown"] += 1
        elif answer["allow"]:
            self.said["places"][place]["loose"] += 1

    async def _answer(self, client: Quick, content: bytes) -> dict[str, Any] | None:
        """None: it is not known what became of it."""
        await client.connect()
        if self._chance.random() < KILLED:
            self.said["killed"] += 1
            await self._killed(client, content)
            return None
        try:
            status, body = await client.ask(content)
        except ConnectionError:
            self.said["heard"]["lost"] += 1
            return None
        answer: dict[str, Any] = json.loads(body)
        if status == 200:
            what = "replayed" if answer.get("replayed") else answer["reason"]
        else:
            what = f"{status} {answer['code']}"
        self.said["heard"][what] += 1
        return answer if status == 200 else None

    async def _killed(self, client: Quick, content: bytes) -> None:
        """Before all of it is sent, just then, or while it is answered."""
        length = self._chance.choice((len(content) // 2, len(content), len(content), len(content)))
        answer = client.send(content[:length])
        await asyncio.wait([answer], timeout=self._chance.choice((0, self._chance.random() * LONGEST_S)))
        client.reset()
        await asyncio.wait([answer])
        answer.exception()


if __name__ == "__main__":
    racers = Racers(**json.loads(sys.argv[1]))
    print(json.dumps(uvloop.run(racers.run())))  # noqa: T201 - what the parent reads
