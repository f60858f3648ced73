"""Processes, not threads: they race, they are killed, and their clocks are wrong."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from time import sleep

import pytest

from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate
from tests.postgres_server import rows, run
from tests.quota.place import at_once
from tests.quota.racer import KEYS, amount_of
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

RACERS = 4
KILLS = 12
# A catalog with few verdicts, so that a worker that was killed is soon replaced.
PLANS = """
version: 1
currency: EUR
default_plan: free
roles: {owner: {}}
features: {}
meters: {minutes: {kind: counter, per: day}}
plans: {free: {price: 0, limits: {minutes: unlimited}}}
actions: {record: {role: owner, takes: {minutes: 1}}}
"""
LATER = """
import datetime, time
real, really = time.time, datetime.datetime
class Later(really):
    @classmethod
    def now(cls, tz=None):
        return really.now(tz) + datetime.timedelta(minutes=50)
    @classmethod
    def fromisoformat(cls, text):
        return really.fromisoformat(text)
datetime.datetime = Later
time.time = lambda: real() + 3_000
"""


def test_processes_that_race_sell_no_more_than_there_is_and_nothing_twice(place):
    acme = place.workspace("large")
    place.sql("SELECT authz.set_overrides(%s, '{}', '{\"minutes\": 500}')", acme.slug)
    command = [sys.executable, "-m", "tests.quota.racer", place.url, acme.slug]
    racers = [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(RACERS)
    ]
    sleep(0.5)

    told = [json.loads(racer.communicate(timeout=120)[0]) for racer in racers]

    allowed = {}
    for number in range(KEYS):
        ids = {each[str(number)] for each in told} - {None}
        assert len(ids) <= 1  # whoever was told yes was told the same yes
        if ids:
            allowed[number] = ids.pop()
    assert sum(map(amount_of, allowed)) == place.used(acme, "minutes") <= 500
    of_minutes = [line for line in place.ledger_of(acme) if line[0] == "minutes"]
    assert len(set(allowed.values())) == len(allowed) == len(of_minutes)
    assert place.usage(acme, "minutes").reserved == 0
    assert place.used(acme, "minutes") + max(map(amount_of, range(KEYS))) > 500


def test_workers_that_are_killed_while_they_take_have_taken_once_or_not_at_all(place):
    """kill -9 at any moment, a hundred times; and whoever has heard nothing retries with their key."""
    acme = place.workspace("large")
    command = [sys.executable, "-m", "tests.quota.killed", place.url, acme.slug]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)

    found = json.loads(ended.stdout)
    assert (
        place.used(acme, "minutes")
        == len(place.ledger_of(acme))
        == found["taken"] + found["not_taken"]
        == 400
    )
    assert found["taken"] > 0
    assert found["not_taken"] > 0


@pytest.fixture(scope="module")
def plans(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("plans") / "plans.yaml"
    path.write_text(PLANS)
    return path


@pytest.fixture
def database(empty_database_url, plans):
    """With the workspace `acme` of `olivia`."""
    compiled = compiled_at(plans, shipped("policies"))
    migrate(empty_database_url, catalog=compiled.catalog, revision=compiled.revision)
    run(
        empty_database_url,
        """WITH w AS (
            INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('acme', 'Acme', 'free') RETURNING id
        )
        INSERT INTO authz.workspace_memberships SELECT id, 'olivia', 'owner' FROM w""",
    )
    return empty_database_url


def ask(sidecar, **fields):
    question = {"user": "olivia", "workspace": "acme", "action": "record", "mode": "consume"}
    return sidecar.request("POST", "/v1/authorize", question | fields)


def workers_of(sidecar):
    master = sidecar.process.pid
    return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]


def figures(url):
    """Used, keys kept, lines of the ledger, and whatever is miscounted."""
    return (
        *rows(url, "SELECT used FROM authz.workspace_usage")[0],
        *rows(url, "SELECT count(*) FROM authz.usage_keys")[0],
        *rows(url, "SELECT count(*) FROM authz.usage_ledger")[0],
        rows(url, "SELECT m.* FROM authz.workspaces AS w CROSS JOIN LATERAL authz.miscounts(w.id) AS m"),
    )


@pytest.mark.slow
def test_a_server_whose_workers_are_killed_loses_nothing_and_takes_nothing_twice(database, plans, tmp_path):
    """While callers hammer, who ask again with the same key until they are answered."""
    settings = {"database_url": database, "engine": "embedded", "plans": plans, "deadline_ms": 5_000}
    chance = random.Random(4)  # noqa: S311 - the same each time
    numbers, over = count(), threading.Event()
    answered: list[str] = []

    def spend(_):
        while not over.is_set():
            key, status = f"k{next(numbers)}", 0
            while status != 200:
                with suppress(OSError, http.client.HTTPException):
                    status, answer = ask(sidecar, idempotency_key=key)
            assert answer["allow"] is True
            answered.append(key)

    def kill(number):
        if number:
            return spend(number)
        try:
            for _ in range(KILLS):
                before = len(answered)
                assert sidecar.until(lambda before=before: len(answered) > before + 4, within_s=60)
                sleep(chance.uniform(0, 0.01))
                os.kill(chance.choice(workers_of(sidecar)), signal.SIGKILL)
        finally:
            over.set()
        return None

    with serving(tmp_path, workers=2, threads=2, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        assert at_once(5, kill) == [None] * 5

    assert figures(database) == (len(answered), len(answered), len(answered), [])


def test_a_worker_whose_clock_is_fifty_minutes_ahead_charges_by_the_databases(
    database, plans, tmp_path, monkeypatch
):
    settings = {"database_url": database, "engine": "embedded", "plans": plans, "deadline_ms": 5_000}
    later = tmp_path / "later"
    later.mkdir()
    (later / "sitecustomize.py").write_text(LATER)
    monkeypatch.setenv("PYTHONPATH", f"{later}:{os.environ.get('PYTHONPATH', '')}:{Path.cwd()}")

    with serving(tmp_path, workers=1, **settings) as sidecar:
        assert sidecar.until(sidecar.is_ready)
        stranger = ask(sidecar, user="nobody")[1]
        consumed = ask(sidecar, idempotency_key="k")[1]
        reserved = ask(sidecar, mode="reserve", ttl_seconds=60)[1]
        settled = sidecar.request("POST", f"/v1/reservations/{reserved['reservation']['id']}/commit")[1]

    now = datetime.now(UTC)
    assert moment(stranger["facts"]["at"]) - now > timedelta(minutes=40)  # so the clock was ahead
    assert abs(moment(consumed["facts"]["at"]) - now) < timedelta(minutes=10)
    assert moment(consumed["quota"]["minutes"]["resets_at"]) - now <= timedelta(days=1)
    assert moment(reserved["reservation"]["expires_at"]) - now < timedelta(minutes=2)
    assert settled["reservation"]["committed"] == {"minutes": 1}
    [(starts, at)] = rows(
        database, "SELECT count(DISTINCT period_start), max(at) < now() FROM authz.usage_ledger"
    )
    assert (starts, at) == (1, True)


def moment(text):
    return datetime.fromisoformat(text)
