"""With the lane and without: the same bytes have the same answers, lines and counts, whatever they are."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.postgres_server import rows
from tests.serving.generated import ACTIONS, TOKENS, a_request
from tests.serving.meanwhile import ASK, request
from tests.serving.talk import counted_at, read_by, talking

if TYPE_CHECKING:
    from random import Random

    from tests.serving.serving import Sidecar

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
VARYING = (
    b"X-Request-ID: of-%d", b"traceparent: 00-%d", b"x-request-key: %d ", b"X-Request-ID: a b%d", b"X-A: %d",
)  # fmt: skip
TRIES = 3  # where a body comes too late for an answer, its connection ends; and not if it is just in time
AT_ONCE = 16
TWICE = 2
_IDS = re.compile(rb'\b[0-9a-f]{32}\b|"at":"[^"]*"')
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_OWN = {"at", "decision_id", "facts_at", "h", "ms", "n", "why", "writer"}  # of each line
COUNTED = ("sidecar_decisions_total", "sidecar_problems_total", "sidecar_policy_memo_total")


def whole(chance: Random) -> list[bytes]:
    return [a_request(chance, is_odd=chance.random() < 0.7)]


def followed_by_others(chance: Random) -> list[bytes]:
    others = [a_request(chance, is_odd=chance.random() < 0.3) for _ in range(chance.choice((1, 2)))]
    return [b"".join([a_request(chance, is_odd=chance.random() < 0.3), *others, LAST])]


def again_but_for_what_varies(chance: Random) -> list[bytes]:
    """As gateways and services ask: the same head, with another id or trace each time."""
    content = a_request(chance, is_odd=chance.random() < 0.5)
    lines = chance.choices(VARYING, (5, 2, 1, 1, 1), k=chance.choice((1, 1, 2)))
    often = []
    for number in range(5):
        more = b"".join(b"\r\n" + line % number for line in lines)
        often.append(content.replace(b"\r\n", more + b"\r\n", 1))
    return [b"".join([*often, LAST])]


def in_pieces(chance: Random) -> list[bytes]:
    content = a_request(chance, is_odd=chance.random() < 0.5) + LAST
    at, then = sorted(chance.sample(range(len(content)), 2))
    return [content[:at], content[at:then], content[then:]]


async def answers(sidecar: Sidecar, pieces: list[bytes]) -> list[tuple[bytes, object, bytes]]:
    """All that comes back to somebody who sends *pieces* and no more, until the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            if piece is not pieces[-1]:
                await asyncio.sleep(0.005)
        writer.write_eof()
        while more := await asyncio.wait_for(reader.read(65_536), 9):
            received += more
    except ConnectionError:
        pass
    finally:
        writer.close()
    return [_plain(head, content) for head, content in _parted(received)]


def _parted(received: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    while received:
        head, end, received = received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1."), head
        assert end
        length = _LENGTH.search(head)
        size = (
            int(length[1]) if length and not received.startswith(b"HTTP/1.") else 0
        )  # to HEAD there is none
        found.append((head, received[:size]))
        received = received[size:]
    return found


def _plain(head: bytes, content: bytes) -> tuple[bytes, object, bytes]:
    first, *lines = head.split(b"\r\n")
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    kept = [(name, _IDS.sub(b"", value)) for name, value in fields if name != b"date"]
    return first, sorted(kept), _IDS.sub(b"", content)


@pytest.mark.parametrize(
    ("shape", "times"),
    [(whole, 1_500), (followed_by_others, 700), (in_pieces, 500), (again_but_for_what_varies, 250)],
)
def test_whatever_is_sent_has_the_same_answers(both, shape, times):
    chance = random.Random(shape.__name__)  # noqa: S311 - no secret
    sent = [shape(chance) for _ in range(times)]
    statuses: Counter[bytes] = Counter()

    async def compare() -> list[tuple[object, ...]]:
        free = asyncio.Semaphore(AT_ONCE)

        async def different(pieces: list[bytes]) -> tuple[object, ...] | None:
            async with free:
                for _ in range(TRIES):
                    found = await asyncio.gather(*(answers(sidecar, pieces) for sidecar in both))
                    if found[0] == found[1]:
                        statuses.update(first[9:12] for first, *_ in found[0])
                        return None
                return (pieces, *found)

        return [each for each in await asyncio.gather(*map(different, sent)) if each]

    before = read_by(both[0].folder / "socket")
    assert asyncio.run(compare()) == []
    assert {b"200", b"400", b"401", b"403", b"404", b"405"} <= statuses.keys()
    assert statuses[b"200"] > times / 5
    after = read_by(both[0].folder / "socket")
    assert after["lane"] - before["lane"] > times / 4
    assert after["gunicorn"] - before["gunicorn"] > times / 10


def test_the_lines_and_the_counts_are_the_same(both):
    """Of each question twice: the second answer of a cell is filled in."""
    chance = random.Random(5)  # noqa: S311 - no secret
    asked = [a_request(chance, is_odd=False) for _ in range(300)]
    sent = [
        content.replace(b"Host:", b"X-Request-ID: of-%d\r\nHost:" % number, 1)
        for number, content in enumerate([*asked, ASK])
    ]
    counts, lines = [], []
    for sidecar in both:
        before = counted_at(sidecar.folder / "socket", COUNTED)
        with talking(sidecar) as talk:
            for content in sent:
                for _ in range(TWICE):
                    talk.send(content)
                    talk.answer(content.partition(b" ")[0].decode())
        after = counted_at(sidecar.folder / "socket", COUNTED)
        counts.append({name: value - before.get(name, 0) for name, value in after.items()})

        def last_are_there(sidecar=sidecar):
            return sum(line["request_id"] == f"of-{len(asked)}" for line in sidecar.lines) == TWICE

        assert sidecar.until(last_are_there, within_s=5)
        lines.append(_lines_of(sidecar))

    assert lines[0] == lines[1]
    assert len(lines[0]) > len(sent)
    assert counts[0] == counts[1]


def _lines_of(sidecar: Sidecar) -> list[str]:
    return sorted(
        json.dumps({name: value for name, value in line.items() if name not in _OWN})
        for line in sidecar.lines
        if line["request_id"].startswith("of-")
    )


CHANGES = {
    "suspend": "UPDATE authz.workspaces SET status = 'suspended' WHERE id = %(id)s",
    "activate": "UPDATE authz.workspaces SET status = 'active' WHERE id = %(id)s",
    "plan": "UPDATE authz.workspaces SET plan_tier = %(plan)s WHERE id = %(id)s",
    "slug": "UPDATE authz.workspaces SET slug = %(slug)s WHERE id = %(id)s",
    "external id": "UPDATE authz.workspaces SET external_id = %(external)s WHERE id = %(id)s",
    "role": "UPDATE authz.workspace_memberships SET role = %(role)s WHERE workspace_id = %(id)s",
    "remove": "DELETE FROM authz.workspace_memberships WHERE workspace_id = %(id)s",
    "add": """INSERT INTO authz.workspace_memberships VALUES (%(id)s, 'zoe', %(role)s)
        ON CONFLICT (workspace_id, user_id) DO NOTHING""",
    "delete": "INSERT INTO authz.deleted_users (id) VALUES ('zoe') ON CONFLICT DO NOTHING",
    "not delete": "DELETE FROM authz.deleted_users",
    "override": """INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, expires_at)
        VALUES (%(id)s, 'feature', %(feature)s, %(on)s, now() + make_interval(secs => %(for_s)s))
        ON CONFLICT (workspace_id, kind, name)
        DO UPDATE SET enabled = excluded.enabled, expires_at = excluded.expires_at""",
    "turn": """UPDATE authz.workspaces SET turns_at = now(), turns = jsonb_build_array(jsonb_build_object(
        'at', now(), 'plan', %(plan)s::text, 'status', 'active', 'seats', NULL)) WHERE id = %(id)s""",
    "no turn": "UPDATE authz.workspaces SET turns_at = NULL, turns = NULL WHERE id = %(id)s",
}


def test_what_has_changed_before_a_question_is_in_both_answers(both, database):
    chance = random.Random(6)  # noqa: S311 - no secret
    [(place,)] = rows(
        database,
        "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('a', 'A', 'team') RETURNING id::text",
    )
    rows(database, "INSERT INTO authz.workspace_memberships VALUES (%s, 'zoe', 'admin')", place)
    seen = set()
    with ExitStack() as stack:
        talks = [stack.enter_context(talking(sidecar)) for sidecar in both]
        for _ in range(120):
            values: dict[str, Any] = {
                "id": place,
                "plan": chance.choice(("starter", "pro", "team")),
                "role": chance.choice(("member", "admin", "janitor")),
                "slug": chance.choice(("a", "b")),
                "external": chance.choice(("x", None)),
                "feature": chance.choice(("analytics", "team_analytics")),
                "on": chance.random() < 0.5,
                "for_s": chance.choice((-1, None, 3_600)),
            }
            change = chance.choice([*CHANGES])
            with psycopg.connect(database, autocommit=True) as connection:
                connection.execute(CHANGES[change].encode(), values)
            for content in _about(
                chance.choice(("a", "b", "ext:x", place, place.upper())), chance.choice(ACTIONS)
            ):
                found = []
                for talk in talks:
                    talk.send(content)
                    answer = talk.answer(content.partition(b" ")[0].decode())
                    own = {"x-request-id", "x-authz-decision-id", "date"}
                    fields = sorted(each for each in answer.headers if each[0] not in own)
                    found.append((answer.line, fields, _IDS.sub(b"", answer.body)))
                assert found[0] == found[1], (change, content)
                seen.add(found[0][::2])
    assert len(seen) > 30


def _about(workspace: str, action: str) -> list[bytes]:
    asked = {"user": "zoe", "workspace": workspace, "action": action}
    evaluation = {
        "subject": {"type": "user", "id": "zoe"},
        "action": {"name": action},
        "resource": {"type": "workspace", "id": workspace},
    }
    return [
        request("POST", "/v1/authorize", json.dumps(asked).encode()),
        request("POST", "/v1/authorize/batch", json.dumps({"questions": [asked, asked]}).encode()),
        request("POST", "/access/v1/evaluation", json.dumps(evaluation).encode()),
        request(
            "GET", f"/gw/ext-authz/workspaces/{workspace}/analytics", b"", f"Authorization: {TOKENS['zoe']}"
        ),
    ]
