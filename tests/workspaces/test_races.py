"""Many at once: one owner, no seat twice, and nothing done by who may not any more."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from time import monotonic
from typing import Any

import psycopg
import pytest

from sidecar.errors import WorkspaceContended
from tests.postgres_server import rows

pytestmark = pytest.mark.postgres

CONTENDED = (503, "workspace_contended")


def said(answer):
    return answer.status_code, answer.json and answer.json.get("code")


def until_said(ask):
    """What is said once it is not *too many at once*."""
    while said(answer := ask()) == CONTENDED:
        assert answer.headers["Retry-After"] == "1"
    return said(answer)


def at_once(*asks):
    with ThreadPoolExecutor(len(asks)) as pool:
        return [future.result() for future in [pool.submit(ask) for ask in asks]]


@contextmanager
def meanwhile(url, slug, ask):
    """A transaction that holds the workspace while *ask* waits for it, and the answer once it has ended."""
    answers: list[Any] = []
    with ThreadPoolExecutor(1) as pool, psycopg.connect(url) as connection:
        connection.execute("SELECT FROM authz.workspaces WHERE slug = %s FOR UPDATE", (slug,))
        future = pool.submit(ask)
        ending = monotonic() + 20
        while not rows(url, "SELECT pid FROM pg_locks WHERE NOT granted"):
            assert monotonic() < ending, "it does not wait for the lock"
            assert not future.done(), said(future.result())
            time.sleep(0.01)
        yield connection, answers
        connection.commit()
        answers.append(future.result(20))


def test_two_accept_the_last_seat_and_one_has_it(stage):
    for number in range(20):
        shop = stage.workspace(owner="nora", members={"max": "member"})
        tokens = {
            name: stage.invited("nora", shop, f"{name}{number}@example.com")["token"]
            for name in ("eve", "ivy")
        }
        stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 3}})

        outcomes = at_once(
            *(
                lambda user=f"{name}{number}", token=token: until_said(lambda: stage.accept(user, token))
                for name, token in tokens.items()
            )
        )

        assert sorted(outcomes, key=str) == [(200, None), (403, "quota_exceeded")]
        assert len(stage.roles(shop)) == 3


def test_one_token_shown_many_times_at_once_is_good_once(stage):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "eve@example.com")["token"]
    users = [f"eve-{number}" for number in range(6)]  # several accounts with one address

    outcomes = at_once(
        *(
            lambda user=user: until_said(lambda: stage.accept(user, token, email="eve@example.com"))
            for user in users
        )
    )

    assert sorted(outcomes, key=str) == [(200, None), *[(404, "invitation_invalid")] * 5]
    assert len(stage.roles(shop)) == 2


def test_many_invitations_at_once_are_no_more_than_the_seats(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin"})
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 5}})

    def ask(by, number):
        return lambda: stage.post(
            by, f"/workspaces/{shop}/invite", {"email": f"{number}@example.com", "role": "member"}
        )

    outcomes = at_once(
        *(lambda number=number: until_said(ask(("nora", "ada")[number % 2], number)) for number in range(8))
    )

    assert sorted(outcomes, key=str) == [(201, None)] * 3 + [(403, "quota_exceeded")] * 5
    assert stage.get("nora", f"/workspaces/{shop}").json["quotas"]["members"]["used"] == 5


def test_invitations_for_one_email_at_once_leave_one(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin"})

    def ask(by):
        body = {"email": "eve@example.com", "role": "member"}
        return until_said(lambda: stage.post(by, f"/workspaces/{shop}/invite", body))

    outcomes = at_once(*(lambda by=by: ask(by) for by in ("nora", "ada") * 3))

    assert outcomes == [(201, None)] * 6
    assert len(stage.get("nora", f"/workspaces/{shop}/invitations").json["invitations"]) == 1


def test_workspaces_of_one_name_at_once_have_slugs_of_their_own(stage):
    def ask(number):
        return stage.post(f"founder-{number}", "/workspaces", {"name": "The same name"})

    answers = at_once(*(lambda number=number: ask(number) for number in range(6)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json["slug"] for answer in answers}) == 6


def test_a_user_who_comes_many_times_at_once_for_the_first_time_has_one_workspace(stage):
    answers = at_once(*(lambda: stage.get("newcomer", "/workspaces") for _ in range(6)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.data for answer in answers}) == 1
    assert len(answers[0].json["workspaces"]) == 1


def test_there_is_one_owner_whatever_everybody_does(stage):
    people = ["p0", "p1", "p2", "p3", "p4"]
    shop = stage.workspace(owner="p0", members=dict.fromkeys(people[1:], "admin"))
    over = Event()
    seen, outcomes = set(), []

    def watch():
        while not over.is_set():
            [(owners,)] = stage.rows(
                """SELECT count(*) FILTER (WHERE m.role = 'owner') FROM authz.workspace_memberships AS m
                JOIN authz.workspaces AS w ON w.id = m.workspace_id WHERE w.slug = %s""",
                shop,
            )
            seen.add(owners)

    def act(seed):
        choose = random.Random(seed)  # noqa: S311 - a test that can be repeated
        for _ in range(125):
            by, other = choose.choice(people), choose.choice(people)
            member = f"/workspaces/{shop}/members/{other}"
            match choose.randrange(5):
                case 0 | 1:
                    answer = stage.post(by, f"/workspaces/{shop}/transfer", {"user": other})
                case 2:
                    answer = stage.patch(by, member, {"role": choose.choice(["admin", "member"])})
                case 3:
                    answer = stage.delete(by, member)
                case _:
                    answer = stage.post(by, f"/workspaces/{shop}/leave")
            outcomes.append(said(answer))
            if choose.random() < 0.2:  # they come back
                stage.rows(
                    """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
                    SELECT w.id, p, 'admin' FROM authz.workspaces AS w, unnest(%s::text[]) AS p
                    WHERE w.slug = %s ON CONFLICT DO NOTHING""",
                    people,
                    shop,
                )

    with ThreadPoolExecutor(5) as pool:
        watching = pool.submit(watch)
        for acting in [pool.submit(act, seed) for seed in range(4)]:
            acting.result()
        over.set()
        watching.result()

    assert seen == {1}
    assert list(stage.roles(shop).values()).count("owner") == 1
    assert {status for status, _ in outcomes} <= {200, 204, 400, 403, 404, 409, 503}
    assert {200, 204, 403, 409} <= {status for status, _ in outcomes}  # something did happen


def test_whoever_is_removed_while_they_wait_does_nothing_any_more(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin", "max": "member"})
    body = {"email": "eve@example.com", "role": "member"}
    asks = [
        lambda: stage.post("ada", f"/workspaces/{shop}/invite", body),
        lambda: stage.delete("ada", f"/workspaces/{shop}/members/max"),
    ]
    for ask in asks:
        with meanwhile(stage.url, shop, ask) as (connection, answers):
            connection.execute("DELETE FROM authz.workspace_memberships WHERE user_id = 'ada'")
        assert said(answers[0]) == (403, "not_a_member")
        stage.rows(
            """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
            SELECT id, 'ada', 'admin' FROM authz.workspaces WHERE slug = %s""",
            shop,
        )

    assert stage.roles(shop) == {"ada": "admin", "max": "member", "nora": "owner"}
    assert stage.get("nora", f"/workspaces/{shop}/invitations").json["invitations"] == []


def test_whoever_is_demoted_while_they_wait_is_told_so(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin", "max": "member"})

    with meanwhile(stage.url, shop, lambda: stage.delete("ada", f"/workspaces/{shop}/members/max")) as (
        connection,
        answers,
    ):
        connection.execute("UPDATE authz.workspace_memberships SET role = 'member' WHERE user_id = 'ada'")

    assert said(answers[0]) == (403, "role_insufficient")


def test_nobody_comes_in_by_who_lost_the_right_while_they_waited(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin"})
    token = stage.invited("ada", shop, "eve@example.com")["token"]

    with meanwhile(stage.url, shop, lambda: stage.accept("eve", token)) as (connection, answers):
        connection.execute("UPDATE authz.workspace_memberships SET role = 'member' WHERE user_id = 'ada'")

    assert said(answers[0]) == (404, "invitation_invalid")
    assert "eve" not in stage.roles(shop)


def test_nobody_comes_in_on_a_plan_that_went_while_they_waited(stage):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "eve@example.com")["token"]

    with meanwhile(stage.url, shop, lambda: stage.accept("eve", token)) as (connection, answers):
        connection.execute("UPDATE authz.workspaces SET plan_tier = 'starter' WHERE slug = %s", (shop,))

    assert said(answers[0]) == (402, "quota_exceeded")


def test_a_seat_that_goes_to_an_invitation_meanwhile_is_gone(stage):
    shop = stage.workspace(owner="nora", members={"ada": "admin"})
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 3}})
    body = {"email": "eve@example.com", "role": "member"}

    # It changes no version: the count under the lock finds it, and then the policy says so.
    with meanwhile(stage.url, shop, lambda: stage.post("ada", f"/workspaces/{shop}/invite", body)) as (
        connection,
        answers,
    ):
        connection.execute(
            """INSERT INTO authz.workspace_invitations
            SELECT id, gen_random_uuid(), 'ivy@example.com', 'member', 'nora', sha256('x'), now(),
                now() + interval '1 day'
            FROM authz.workspaces WHERE slug = %s""",
            (shop,),
        )

    assert said(answers[0]) == (403, "quota_exceeded")


def test_an_invitation_that_expires_meanwhile_is_none(stage):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "eve@example.com")["token"]

    with meanwhile(stage.url, shop, lambda: stage.accept("eve", token)) as (connection, answers):
        connection.execute(
            """UPDATE authz.workspace_invitations
            SET expires_at = clock_timestamp() - interval '1 microsecond' WHERE email = 'eve@example.com'"""
        )

    assert said(answers[0]) == (404, "invitation_invalid")


def test_what_changes_each_time_is_an_outage_and_nothing_was_done(stage, monkeypatch):
    shop = stage.workspace(owner="nora")
    tries = []

    def always_too_late(*_, **__):
        tries.append(1)
        raise WorkspaceContended("changed since")

    monkeypatch.setattr("sidecar.store.people.PostgresPeople.rename", always_too_late)

    answer = stage.patch("nora", f"/workspaces/{shop}", {"name": "New"})

    assert said(answer) == CONTENDED
    assert len(tries) == 2
    assert stage.get("nora", f"/workspaces/{shop}").json["name"] == shop
