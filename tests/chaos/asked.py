"""Clients that ask while something is broken, and what they were told that is not true.

An outage is an answer 5xx, or none. Everything else has to be what the database means: who may is allowed,
who may not is denied for the right reason, and a key takes once.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from threading import Event, Lock, Thread
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import psycopg

from tests.postgres_server import rows, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

TIMEOUT_S = 3.0  # of a client: more than the sidecar's own deadline
CLIENTS = 6
WORKSPACE, MEMBER, STRANGER, COMES_AND_GOES = "acme", "adam", "nobody", "tess"
SERVER_ERRORS = 500
# Who asks for what, and what the database means: allowed, or the reason.
TRUTH: dict[tuple[str, str], str | None] = {
    (MEMBER, "platform.use"): None,
    (MEMBER, "roleplay.start"): None,
    (MEMBER, "billing.manage"): "role_insufficient",
    (STRANGER, "platform.use"): "not_a_member",
}
MAY = """
    INSERT INTO authz.workspace_memberships
    SELECT id, %s, 'member' FROM authz.workspaces WHERE slug = 'acme' ON CONFLICT DO NOTHING
"""
MAY_NOT = "DELETE FROM authz.workspace_memberships WHERE user_id = %s"
QUOTA = """
    INSERT INTO authz.workspace_features (workspace_id, kind, name, at_most)
    SELECT id, 'limit', 'minutes', %s FROM authz.workspaces WHERE slug = 'acme'
"""
TAKEN = """
    SELECT COALESCE((SELECT sum(used)::bigint FROM authz.workspace_usage WHERE workspace_id = w.id), 0),
        (SELECT count(*) FROM authz.usage_ledger WHERE workspace_id = w.id),
        (SELECT count(*) FROM authz.miscounts(w.id))
    FROM authz.workspaces AS w WHERE w.slug = 'acme'
"""
_clients = count(1)


@dataclass
class Told:
    """*wrong*: untrue answers, in words. *heard* counts what came; *failed*: when an outage was told last.

    *sql* counts what our own statements met.
    """

    heard: Counter[str] = field(default_factory=Counter)
    sql: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: float = 0.0


class Clients:
    """They ask until the context is left, each *pause_s* after an answer.

    *minutes* is how many there are for them to take.
    """

    def __init__(self, port: int, database: Callable[[], str], *, minutes: int, pause_s: float = 0.0) -> None:
        self.told = Told()
        self._port = port
        self._database = database
        self._pause_s = pause_s
        self._ends = Event()
        self._lock = Lock()
        self._keys = (f"key-{next(_clients)}-{number}" for number in count())
        self._unanswered: set[str] = set()
        self._granted: set[str] = set()
        self._was_full = False  # by what a client was told
        self._gone = 0  # odd while who comes and goes is gone
        run(database(), "DELETE FROM authz.workspace_features")
        [(self._used, self._entries, _)] = rows(database(), TAKEN)  # by those before
        self._limit = int(self._used) + minutes
        rows(database(), QUOTA, self._limit)
        rows(database(), MAY, COMES_AND_GOES)
        work = [self._ask_what_is_known] * (CLIENTS - 3) + [self._take] * 2 + [self._ask_who_comes_and_goes]
        self._threads = [Thread(target=each) for each in work]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        for each in self._threads:
            each.join()

    def remove_and_put_back(self) -> None:
        """Who comes and goes: gone once the database has said so. It may be down."""
        try:
            rows(self._database(), MAY_NOT, COMES_AND_GOES)
            self._gone += 1
            sleep(0.2)
            self._gone += 1
            rows(self._database(), MAY, COMES_AND_GOES)
        except psycopg.Error as error:  # the database is what is broken
            self._gone += self._gone % 2
            self.told.sql[type(error).__name__] += 1
            sleep(0.05)

    def recovery_s(self, *, since: float, within_s: float, quiet_s: float = 0.5) -> float:
        """Seconds from *since* to the last outage, once there has been none for *quiet_s*."""
        deadline = monotonic() + within_s
        while monotonic() < deadline:
            if monotonic() - max(self.told.failed, since) >= quiet_s:
                return max(0.0, self.told.failed - since)
            sleep(0.05)
        return float("inf")

    @property
    def granted(self) -> int:
        """How many minutes have been granted so far."""
        return len(self._granted)

    @property
    def outages(self) -> int:
        return sum(self.told.heard.values()) - self.told.heard["answered"]

    def settle(self) -> None:
        """After the end: every key without an answer is asked for until it has one, then all is counted."""
        deadline = monotonic() + 30
        while self._unanswered and monotonic() < deadline:
            for key in sorted(self._unanswered):
                self._take_with(key)
        if self._unanswered:
            self.told.wrong.append(f"keys without an answer: {len(self._unanswered)}")
        [(used, entries, miscounts)] = rows(self._database(), TAKEN)
        used, entries = used - self._used, entries - self._entries
        if used != len(self._granted) or entries != used:
            self.told.wrong.append(
                f"{len(self._granted)} keys were granted, {used} minutes used by {entries} rows of the ledger"
            )
        if self._used + used > self._limit:
            self.told.wrong.append(f"oversold: {self._used + used} of {self._limit}")
        if self._was_full and self._used + used < self._limit:
            self.told.wrong.append(f"denied, and there was room: {self._used + used} of {self._limit}")
        if miscounts:
            self.told.wrong.append(f"{miscounts} miscounts")

    def _ask_what_is_known(self) -> None:
        while not self._ends.is_set():
            for (user, action), reason in TRUTH.items():
                for more in (
                    {},
                    {"context": {"ip": "192.0.2.1"}},
                ):  # what the engine is asked
                    answer = self._post({"user": user, "workspace": WORKSPACE, "action": action, **more})
                    if answer is not None:
                        self._compare(answer, f"{user} {action}", reason)

    def _ask_who_comes_and_goes(self) -> None:
        while not self._ends.is_set():
            before = self._gone
            answer = self._post({"user": COMES_AND_GOES, "workspace": WORKSPACE, "action": "platform.use"})
            if answer is not None and answer.get("allow") and before % 2 and self._gone == before:
                self._wrong("who was removed is allowed")
            elif answer is not None and not answer.get("allow"):
                self._compare(answer, COMES_AND_GOES, "not_a_member")

    def _take(self) -> None:
        while not self._ends.is_set():
            with self._lock:
                key = next(self._keys)
                self._unanswered.add(key)
            self._take_with(key)
            if key in self._unanswered:
                sleep(0.02)

    def _take_with(self, key: str) -> None:
        answer = self._post(
            {
                "user": MEMBER, "workspace": WORKSPACE, "action": "recording.start", "mode": "consume",
                "amounts": {"minutes": 1}, "idempotency_key": key,
            }
        )  # fmt: skip
        if answer is None:
            return
        with self._lock:
            self._unanswered.discard(key)
        if answer.get("allow"):
            with self._lock:
                self._granted.add(key)
        else:
            self._was_full = True
            self._compare(answer, key, "quota_exceeded")

    def _compare(self, answer: dict[str, Any], what: str, reason: str | None) -> None:
        told = None if answer.get("allow") else str(answer.get("reason") or answer.get("code"))
        if told != reason:
            self._wrong(f"{what}: {told or 'allowed'} instead of {reason or 'allowed'}")

    def _wrong(self, what: str) -> None:
        with self._lock:
            self.told.wrong.append(what)

    def _post(self, question: dict[str, object]) -> dict[str, Any] | None:
        """The answer; None for an outage."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)
        try:
            connection.request(
                "POST", "/v1/authorize", json.dumps(question), {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            answer = json.loads(response.read())
            status = response.status
        except (OSError, http.client.HTTPException, ValueError) as error:
            status, answer = SERVER_ERRORS, {"code": type(error).__name__}
            sleep(0.005)  # else all that they do is to be refused
        finally:
            connection.close()
        with self._lock:
            if status >= SERVER_ERRORS:
                self.told.heard[str(answer.get("code"))] += 1
                self.told.failed = monotonic()
                return None
            self.told.heard["answered"] += 1
        sleep(self._pause_s)
        return dict(answer)
