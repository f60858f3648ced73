"""A whole sidecar that reads a replica: every way to check says so, and whatever takes something does not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Thread
from time import monotonic, sleep

import pytest

from sidecar.identity.callers import token_line
from sidecar.store.migrate import migrate
from tests.postgres_server import rows, run
from tests.serving.serving import QUESTION, serving
from tests.serving.test_metrics import of, samples
from tests.store.asking import until
from tests.store.replicating import (
    ADD,
    REMOVE,
    a_demo_pair,
    name_standbys,
    replay_paused,
    waiting_for_the_standby,
)

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.long]

CHECK = {"user": "mia", "workspace": "acme", "action": "platform.use"}
EVALUATION = {
    "subject": {"type": "user", "id": "mia"},
    "resource": {"type": "workspace", "id": "acme"},
    "action": {"name": "platform.use"},
}
# But for the log's anchors, which are tried again and again.
WAITING = "SELECT query FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query !~ 'anchor_log'"
BOUND_MS = 1_000  # a busy test machine


@pytest.fixture(scope="module")
def pair(compiled):
    with a_demo_pair() as pair:
        migrate(pair.primary, catalog=compiled.catalog, revision=compiled.revision)
        pair.catch_up()
        yield pair


@pytest.fixture(scope="module", params=["on", pytest.param("off", marks=pytest.mark.long)])
def sidecar(request, pair, opa, tmp_path_factory):
    """With the lane, and without it."""
    folder = tmp_path_factory.mktemp("replicas")
    tokens = folder / "tokens"
    tokens.write_text(token_line("all", ["authorize", "audit", "admin", "people"], "t"))
    with serving(
        folder,
        database_url=pair.primary,
        facts_urls=pair.standby,
        facts_max_lag_ms=BOUND_MS,
        opa_url=opa.url,
        tokens=tokens,
        deadline_ms=5_000,
        lane=request.param,
        workers=1,
    ) as sidecar:
        sidecar.headers = {"Authorization": "Bearer t"}
        assert sidecar.until(sidecar.is_ready, within_s=30)
        assert sidecar.until(lambda: "lag_ms" in check(sidecar)["facts"], within_s=10)
        yield sidecar


def check(sidecar, **fields):
    return sidecar.request("POST", "/v1/authorize", CHECK | fields)[1]


def test_each_way_to_check_reads_the_replica_and_says_how_old_its_facts_are(sidecar):
    """Twice each: the second is filled into the template of the first."""
    answers = []
    for _ in range(3):
        answers.append(check(sidecar))
        batch = {"questions": [CHECK, CHECK | {"action": "recording.start"}]}
        answers += sidecar.request("POST", "/v1/authorize/batch", batch)[1]["answers"]
        answers.append(sidecar.request("POST", "/access/v1/evaluation", EVALUATION)[1]["context"])
        many = {"evaluations": [EVALUATION, EVALUATION]}
        found = sidecar.request("POST", "/access/v1/evaluations", many)[1]["evaluations"]
        answers += [each["context"] for each in found]

    assert len(answers) == 18
    assert all(0 <= each["facts"]["lag_ms"] <= BOUND_MS for each in answers), answers
    assert sidecar.until(lambda: {each["decision_id"] for each in answers} <= set(logged_by(sidecar)))
    logged = logged_by(sidecar)
    for each in answers:
        line = logged[each["decision_id"]]
        assert (line["facts_at"], line["facts_lag_ms"]) == (each["facts"]["at"], each["facts"]["lag_ms"])


def logged_by(sidecar):
    return {line["decision_id"]: line for line in sidecar.lines if line["kind"] == "decision"}


def test_whatever_takes_something_or_changes_it_reads_the_primary(sidecar):
    take = QUESTION | {"mode": "consume", "amounts": {"minutes": 1}}
    modes = ("consume", "reserve")
    answers = [sidecar.request("POST", "/v1/authorize", take | {"mode": mode})[1] for mode in modes]

    assert [each["allow"] for each in answers] == [True, True]
    assert [set(each["facts"]) for each in answers] == [{"at", "cached"}] * 2


def test_an_answer_of_the_primary_says_nothing_of_a_lag(sidecar):
    answers = [check(sidecar, user="nobody") for _ in range(2)]

    assert {each["reason"] for each in answers} == {"not_a_member"}
    assert [set(each["facts"]) for each in answers] == [{"at", "cached"}] * 2


def test_members_and_strangers_that_ask_together_each_get_their_own_answer(sidecar):
    check(sidecar), check(sidecar, user="nobody")  # so that there are texts to fill in
    users = ["mia", "nobody", "adam", "sam"] * 15
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda user: check(sidecar, user=user), users))

    for user, answer in zip(users, answers, strict=True):
        is_member = user in {"mia", "adam"}
        assert answer["allow"] is is_member
        assert answer.get("role") == {"mia": "member", "adam": "admin"}.get(user)
        assert not is_member or ("lag_ms" in answer["facts"])
        assert is_member or set(answer["facts"]) == {"at", "cached"}


def test_a_removal_by_sql_counts_as_soon_as_it_is_committed(pair, sidecar):
    with waiting_for_the_standby(pair):
        for _ in range(20):
            run(pair.primary, ADD)
            assert check(sidecar)["allow"]
            run(pair.primary, REMOVE)
            assert not check(sidecar)["allow"]
    run(pair.primary, ADD)


@contextmanager
def a_named_standby_is_away(pair):
    name_standbys(pair, "nobody_is_called_so")
    try:
        assert until(lambda: rows(pair.primary, "SHOW synchronous_standby_names") != [("",)])
        yield
    finally:
        name_standbys(pair, "")


@pytest.mark.long
@pytest.mark.parametrize("sidecar", ["off"], indirect=True)
def test_while_a_named_standby_is_away_the_outcome_of_a_change_is_unknown_and_checks_go_on(pair, sidecar):
    """In five seconds. Then nothing waits in PostgreSQL for it any more, and the change is made."""
    answers = {}

    def change(name, *request, **more):
        began = monotonic()
        status, body = sidecar.request(*request, **more, timeout=20)
        answers[name] = status, body["code"], body["detail"], monotonic() - began

    suspend = ("PUT", "/v1/workspaces/piano/status", {"status": "suspended"})
    remove = ("DELETE", "/workspaces/acme/members/mia")
    consume = {"user": "zoe", "workspace": "zoe", "action": "recording.start", "mode": "consume"}
    olivia = {"headers": {"X-Act-As": "olivia"}}
    assert sidecar.request("GET", "/workspaces", **olivia)[0] == 200  # they are known from now on
    with a_named_standby_is_away(pair):
        changes = [
            Thread(target=change, args=("suspend", *suspend)),
            Thread(target=change, args=("remove", *remove), kwargs=olivia),
            Thread(target=change, args=("consume", "POST", "/v1/authorize", consume)),
        ]
        for each in changes:
            each.start()
            sleep(0.05)
        while any(each.is_alive() for each in changes):
            began = monotonic()
            assert check(sidecar, user="sam", workspace="solo")["allow"]
            assert monotonic() - began < 1
        for each in changes:
            each.join()
        assert until(lambda: rows(pair.primary, WAITING) == []), rows(pair.primary, WAITING)
        assert check(sidecar, user="pia", workspace="piano")["reason"] == "workspace_suspended"
        assert check(sidecar)["reason"] == "not_a_member"
    run(pair.primary, ADD, "UPDATE authz.workspaces SET status = 'active' WHERE slug = 'piano'")

    assert answers.pop("consume")[:2] == (503, "facts_unavailable")
    assert set(answers) == {"suspend", "remove"}
    for status, code, detail, took_s in answers.values():
        assert (status, code) == (503, "outcome_unknown")
        assert "look whether the change is made" in detail
        assert 4.9 < took_s < 8


def test_a_replica_that_stands_still_is_seen_in_the_metrics_and_in_a_line(pair, sidecar):
    assert sidecar.until(lambda: of(samples(sidecar), "sidecar_replica_used", replica="1") == 1, within_s=10)
    assert of(samples(sidecar), "sidecar_replica_lag_seconds", replica="1") < BOUND_MS / 1000
    assert of(samples(sidecar), "sidecar_facts_reads_total", answered_by="replica") > 0
    with replay_paused(pair):
        run(pair.primary, REMOVE)
        sleep(BOUND_MS / 1000 + 0.1)
        assert not check(sidecar)["allow"]
        assert sidecar.until(
            lambda: of(samples(sidecar), "sidecar_replica_used", replica="1") == 0, within_s=10
        )
        assert sidecar.until(
            lambda: of(samples(sidecar), "sidecar_replica_lag_seconds", replica="1") > BOUND_MS / 1000,
            within_s=10,
        )
        run(pair.primary, ADD)
        assert sidecar.status()["database"]["cause"] is None
    assert sidecar.until(lambda: "lag_ms" in check(sidecar)["facts"], within_s=10)
    lines = [line for line in sidecar.said.splitlines() if "replica" in line]
    assert len(lines) == 2, json.dumps(lines)
