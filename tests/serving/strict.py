"""Questions that are sent after a right was taken away, over connections that are busy all the time.

`python -m tests.serving.strict ORDER`: clients in a process of their own. Each place is a workspace whose
member has a right that is taken and given back again and again. Every connection asks without a break, about
a place whose right was just taken if there is one. Before a right is taken many ask about it: so while the
first questions after that are sent, queries are on their way that were sent when the right was there. Only
what is sent once the change was answered is a try.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

import psycopg
import uvloop

from tests.serving.quick import Quick, in_processes
from tests.serving.rights import DENIED_BY_STATUS, FORMS, KINDS, MUCH, NO_ANSWER, Changes, Place, joins

if TYPE_CHECKING:
    from pathlib import Path

CONNECTIONS, PROCESSES = 64, 2
FIRST_TRIES = 16  # of each change: by so many connections, each with its next question
GRANTED_FIRST = 8  # answers, before the right is taken once more
BEFORE = 0.7  # of the other questions are about the place whose right is taken next
ASKED_BEFORE = 8  # of these, before it is
_numbers = count(1)


@dataclass
class Tried:
    """*wrong*: what was answered from before the question, if anything; *answers* by form and status."""

    tries: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    soonest_s: float = 1.0  # after a change was answered that a question was sent


def tried(
    port: int,
    trusted: Path,
    database_url: str,
    *,
    tries: int,
    within_s: float,
    connections: int = CONNECTIONS,
) -> Tried:
    """By clients of *port*; the changes over HTTP are by the Unix socket *trusted*."""
    order = {
        "port": port, "trusted": str(trusted), "database_url": database_url, "tries": -(-tries // PROCESSES),
        "connections": connections // PROCESSES,
    }  # fmt: skip
    orders = [order | {"name": f"strict{next(_numbers)}"} for _ in range(PROCESSES)]
    whole = Tried()
    for said in in_processes("tests.serving.strict", orders, within_s=within_s):
        whole.tries.update(said["tries"])
        whole.changes.update(said["changes"])
        whole.answers.update(said["answers"])
        whole.wrong += said["wrong"]
        whole.soonest_s = min(whole.soonest_s, said["soonest_s"])
    return whole


NEW_PLACE = """
    WITH w AS (INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES (%s, 'Strict', %s) RETURNING id),
    o AS (INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
          SELECT id, 'limit', 'minutes', %s FROM w)
    INSERT INTO authz.workspace_memberships SELECT id, %s, 'owner' FROM w
"""


class Trial:
    """Of one process: all its places, connections and changes on one loop."""

    def __init__(
        self, *, name: str, port: int, trusted: str, database_url: str, tries: int, connections: int
    ) -> None:
        self._port, self._trusted, self._database_url = port, trusted, database_url
        self._wanted, self._connections = tries, connections
        self._first = min(FIRST_TRIES, connections)
        self._chance = random.Random(name)  # noqa: S311 - the same each time
        self._places = [Place(kind, f"{name}-{n}") for n, kind in enumerate(KINDS.values())]
        self._names = dict(zip(self._places, KINDS, strict=True))
        self._forms = {
            place: [
                name
                for name, form in FORMS.items()
                for _ in range(form.weight)
                if form.action in {"", place.kind.action}
            ]
            for place in self._places
        }
        self._one_at_a_time = asyncio.Lock()
        self._next_taken: Place | None = None
        self._before = asyncio.Semaphore(0)  # released for each question about it
        self._ended = False
        self.tried = Tried()

    async def run(self) -> Tried:
        async with asyncio.TaskGroup() as group:
            changes = [group.create_task(self._change(place)) for place in self._places]
            await asyncio.wait([group.create_task(self._ask(number)) for number in range(self._connections)])
            for each in changes:
                each.cancel()
        return self.tried

    async def _change(self, place: Place) -> None:
        connection = await psycopg.AsyncConnection.connect(self._database_url, autocommit=True)
        async with connection:
            changes = Changes(self._port, self._trusted, connection)
            await changes.sql(NEW_PLACE, place.name, place.kind.plan, MUCH, place.boss)
            await joins(changes, place)
            if place.kind.give is not joins:
                await place.kind.give(changes, place)
            while True:
                place.begin(taken=False)
                await place.enough.wait()
                async with self._one_at_a_time:
                    self._next_taken, self._before = place, asyncio.Semaphore(0)
                    for _ in range(ASKED_BEFORE):
                        await self._before.acquire()
                    place.taken = None
                    await place.kind.take(changes, place)
                    place.begin(taken=True)
                    self._next_taken = None
                self.tried.changes[self._names[place]] += 1
                await place.enough.wait()
                place.taken = None
                await place.kind.give(changes, place)

    def _next(self, number: int) -> Place:
        taken = [each for each in self._places if each.taken and number not in each.asked]
        if taken:
            return max(taken, key=lambda each: each.changed_at)
        if self._next_taken is not None and self._chance.random() < BEFORE:
            self._before.release()
            return self._next_taken
        there = [each for each in self._places if each.taken is False]
        return self._chance.choice(there or self._places)

    async def _ask(self, number: int) -> None:
        client = Quick(self._port)
        await client.connect()
        while not self._ended:
            place = self._next(number)
            name = self._chance.choice(self._forms[place])
            content = FORMS[name].request(place)
            await client.connect()
            taken, epoch, sent_at = place.taken, place.epoch, monotonic()
            place.asked.add(number)
            status, body = await asyncio.wait_for(client.send(content), 20)
            self._hear(place, name, status, body, taken=taken, epoch=epoch, sent_at=sent_at)
        client.close()

    def _hear(
        self,
        place: Place,
        name: str,
        status: int,
        body: bytes,
        *,
        taken: bool | None,
        epoch: int,
        sent_at: float,
    ) -> None:
        tried, form = self.tried, FORMS[name]
        tried.answers[f"{name} {status}"] += 1
        if taken is None or (epoch, taken) != (place.epoch, place.taken):
            return  # it was being changed at some moment between question and answer: either is right
        place.heard += 1
        if place.heard >= (self._first if taken else GRANTED_FIRST):
            place.enough.set()
        if status in NO_ANSWER:
            return
        if form.granted is None:
            granted = status == 200
            assert granted or status in DENIED_BY_STATUS, (status, body)
        else:
            assert status == 200, (status, body)
            granted = form.granted(body)
        if taken:
            tried.tries[self._names[place]] += 1
            tried.soonest_s = min(tried.soonest_s, sent_at - place.changed_at)
            self._ended |= tried.tries.total() >= self._wanted
        if granted is taken:
            what = "taken" if taken else "given"
            after_ms = 1_000 * (sent_at - place.changed_at)
            when = f"{name} sent {after_ms:.2f} ms after it was {what}"
            tried.wrong.append(f"{self._names[place]}: {when}: {body.decode()[:300]}")


if __name__ == "__main__":
    trial = Trial(**json.loads(sys.argv[1]))
    result = uvloop.run(trial.run())
    print(json.dumps(vars(result)))  # noqa: T201 - what the parent reads
