"""What a client promises, against the real sidecar, by both of its doors and over TLS, and the fake one."""

from __future__ import annotations

from time import sleep
from uuid import uuid4

import pytest

from sidecar.guard import Client, Conflict, Denied, Refused
from sidecar.guard.testing import FakeSidecar
from tests.guard.certificates import a_certificate, an_authority, nginx
from tests.guard.values import WHERE

PATIENT_S = 15


@pytest.fixture(params=["fake", "tcp", "unix", "tls"], scope="module")
def client(request, tmp_path_factory):
    """Of mia, a member of acme on the plan team; zoe is a stranger there."""
    if request.param == "fake":
        yield the_fake()
        return
    real = request.getfixturevalue("real_sidecar")
    if request.param == "tls":
        folder = tmp_path_factory.mktemp("tls")
        authority = an_authority(folder)
        with (
            nginx(a_certificate(authority), folder, sidecar=real.port) as url,
            Client(url, timeout_s=PATIENT_S, ca_file=authority.file) as client,
        ):
            yield client
        return
    url = f"http://127.0.0.1:{real.port}" if request.param == "tcp" else f"unix://{real.folder}/sidecar.sock"
    with Client(url, timeout_s=PATIENT_S) as client:
        yield client


def the_fake():
    fake = FakeSidecar(role="member", plan="team", strangers={"zoe", "nobody"})
    fake.allow("roleplay.start", "feature:team_sessions", "role:member")
    fake.allow("recording.start", limits={"minutes": 1000})
    fake.allow("scenarios.create", limits={"scenarios": None}, level=True)
    fake.deny("members.invite", reason="role_insufficient", needs_roles=["admin", "owner"])
    return fake


def used(client, action="recording.start", meter="minutes"):
    return client.check(action, **WHERE).quota[meter].used


def test_a_member_may_what_their_role_and_plan_allow(client):
    decision = client.check("roleplay.start", **WHERE)

    assert decision.allowed
    assert (decision.role, decision.plan, decision.reason) == ("member", "team", "granted")
    assert decision.quota == {}
    assert client.authorize("feature:team_sessions", **WHERE)
    assert decision.workspace is not None
    assert (len(decision.workspace.id), decision.workspace.slug) == (36, "acme")


def test_what_their_role_may_not_says_who_may(client):
    decision = client.check("members.invite", **WHERE)

    assert (decision.allowed, decision.status, decision.reason) == (False, 403, "role_insufficient")
    assert decision.needs_roles == ("admin", "owner")


def test_what_nobody_has_declared_nobody_may(client):
    with pytest.raises(Denied) as denied:
        client.authorize("no.such", **WHERE)

    assert denied.value.reason == "unknown_action"


def test_a_stranger_learns_nothing(client):
    decision = client.check("roleplay.start", user="zoe", workspace="acme")

    assert (decision.reason, decision.role, decision.plan) == ("not_a_member", None, None)
    assert decision.workspace is None
    with pytest.raises(Denied, match="not_a_member"):
        client.entitlements(user="zoe", workspace="acme")
    with pytest.raises(Denied, match="not_a_member"):
        client.reserve("recording.start", user="zoe", workspace="acme")


def test_a_batch_answers_in_order(client):
    answers = client.batch(["roleplay.start", "members.invite", "recording.start"], **WHERE)

    assert [answer.allowed for answer in answers] == [True, False, True]


def test_a_question_that_is_none_is_refused(client):
    with pytest.raises(Refused, match="meter_not_taken"):
        client.check("roleplay.start", minutes=1, **WHERE)


def test_what_is_consumed_is_used(client):
    before = used(client)
    decision = client.consume("recording.start", minutes=5, **WHERE)

    assert decision.quota["minutes"].used == used(client) == before + 5
    assert decision.quota["minutes"].remaining == 1000 - before - 5
    assert not decision.replayed


def test_under_one_key_it_is_taken_once(client):
    before, key = used(client), uuid4().hex
    first, again = (
        client.consume("recording.start", minutes=5, idempotency_key=key, **WHERE) for _ in range(2)
    )

    assert (first.replayed, again.replayed) == (False, True)
    assert first.decision_id == again.decision_id
    assert used(client) == before + 5
    with pytest.raises(Conflict, match="idempotency_key_reused"):
        client.consume("recording.start", minutes=6, idempotency_key=key, **WHERE)


def test_without_room_nothing_is_taken_and_waiting_helps(client):
    client.consume("recording.start", minutes=1, **WHERE)
    before = used(client)
    with pytest.raises(Denied) as denied:
        client.consume("recording.start", minutes=1000, **WHERE)

    assert (denied.value.status, denied.value.reason) == (429, "quota_exceeded")
    assert denied.value.retry_after is not None
    assert denied.value.retry_after >= 1
    assert used(client) == before


def test_a_hold_counts_until_it_is_committed(client):
    before = used(client)
    with client.reserve("recording.start", minutes=30, **WHERE) as hold:
        held = client.check("recording.start", **WHERE).quota["minutes"]
        settled = hold.commit(minutes=12)

    assert (held.used, held.reserved) == (before, 30)
    assert hold.reservation.amounts == {"minutes": 30}
    assert (settled.amounts, settled.replayed) == ({"minutes": 12}, False)
    assert (settled.quota["minutes"].used, settled.quota["minutes"].reserved) == (before + 12, 0)


def test_what_is_settled_stays_so(client):
    hold = client.reserve("recording.start", minutes=3, **WHERE)
    hold.commit(minutes=2)

    assert hold.commit(minutes=2).replayed
    for other in (hold.commit, hold.release):
        with pytest.raises(Conflict, match="reservation_settled"):
            other()


def test_a_hold_that_is_left_is_released(client):
    before = used(client)
    with client.reserve("recording.start", minutes=30, **WHERE) as hold:
        pass

    assert used(client) == before
    assert hold.release().replayed
    with pytest.raises(Conflict, match="reservation_settled"):
        hold.commit()


def test_no_more_than_is_held_is_committed(client):
    with client.reserve("recording.start", minutes=3, **WHERE) as hold:
        with pytest.raises(Conflict, match="commit_exceeds_reservation"):
            hold.commit(minutes=4)
        assert hold.commit().amounts == {"minutes": 3}


def test_what_is_not_held_is_not_committed(client):
    with client.reserve("recording.start", minutes=3, **WHERE) as hold:
        with pytest.raises(Refused, match="400 meter_not_taken"):
            hold.commit(scenarios=1)
        with pytest.raises(Refused, match="400 invalid_request"):
            client.commit(hold.reservation.id, minutes=0)
        with pytest.raises(Refused, match="400 invalid_request"):
            hold.commit({})


def test_zero_is_a_release(client):
    before = used(client)
    with client.reserve("recording.start", minutes=3, **WHERE) as hold:
        hold.commit(minutes=0)

    assert used(client) == before


def test_a_hold_ends_by_itself(client):
    hold = client.reserve("recording.start", minutes=3, ttl_s=1, **WHERE)
    sleep(1.2)

    assert client.check("recording.start", **WHERE).quota["minutes"].reserved == 0
    assert hold.release().amounts == {"minutes": 3}


def test_a_reservation_that_there_is_not(client):
    for settle in (client.commit, client.release):
        with pytest.raises(Refused, match="404 unknown_reservation"):
            settle("0" * 32)


def test_under_one_key_something_is_reserved_once(client):
    key = uuid4().hex
    first, again = (client.reserve("recording.start", idempotency_key=key, **WHERE) for _ in range(2))

    assert first.reservation == again.reservation
    first.release()


@pytest.mark.parametrize("end", ["fails", "expires"])
def test_a_second_run_under_the_key_of_a_hold_that_is_over_is_a_run_like_any_other(client, end):
    before, key = used(client), uuid4().hex
    work = {"minutes": 5, "idempotency_key": key, "ttl_s": 1 if end == "expires" else 60, **WHERE}
    failed = client.reserve("recording.start", **work)
    sleep(1.2 if end == "expires" else 0)
    with pytest.raises(ZeroDivisionError), failed:
        _ = 1 / 0

    with client.reserve("recording.start", **work) as hold:
        settled = hold.commit(minutes=3)
    repeated = client.reserve("recording.start", **work)

    assert (failed.reservation.state, hold.reservation.state) == ("held", "held")
    assert failed.reservation.id != hold.reservation.id
    assert (hold.decision.replayed, settled.replayed, settled.amounts) == (False, False, {"minutes": 3})
    assert (repeated.reservation.id, repeated.reservation.state) == (hold.reservation.id, "committed")
    assert repeated.decision.quota["minutes"].used == used(client) == before + 3


def test_what_was_given_back_can_be_taken_again_under_its_key(client):
    before, key = used(client), uuid4().hex
    for _ in range(3):
        taken = client.consume("recording.start", minutes=5, idempotency_key=key, **WHERE)
        assert (taken.replayed, taken.quota["minutes"].used) == (False, before + 5)
        client.usage_release(workspace="acme", idempotency_key=key)
    client.consume("recording.start", minutes=5, idempotency_key=key, **WHERE)
    client.usage_release(workspace="acme", idempotency_key=key, amounts={"minutes": 2})

    again = client.consume("recording.start", minutes=5, idempotency_key=key, **WHERE)

    assert (again.replayed, again.quota["minutes"].used, used(client)) == (True, before + 3, before + 3)


def test_a_thing_that_was_given_back_can_be_made_again_under_its_key(client):
    before, thing, key = used(client, "scenarios.create", "scenarios"), uuid4().hex, uuid4().hex
    for _ in range(2):
        made = client.consume("scenarios.create", resource=thing, idempotency_key=key, **WHERE)
        assert not made.replayed
        assert used(client, "scenarios.create", "scenarios") == before + 1
        client.usage_release(workspace="acme", meter="scenarios", resource=thing)
    assert client.usage_release(workspace="acme", idempotency_key=key).replayed
    assert used(client, "scenarios.create", "scenarios") == before


def test_what_was_taken_is_given_back_once(client):
    before = used(client)
    taken = client.consume("recording.start", minutes=5, **WHERE)
    back = {"workspace": "acme", "idempotency_key": taken.idempotency_key}

    with pytest.raises(Refused, match="400 invalid_request"):
        client.usage_release(**back, amounts={})
    first, again = (client.usage_release(**back, amounts={"minutes": 3}) for _ in range(2))

    assert (first.amounts, first.replayed, again.replayed) == ({"minutes": 3}, False, True)
    assert used(client) == before + 2
    with pytest.raises(Conflict, match="refund_exceeds_use"):
        client.usage_release(**back, amounts={"minutes": 6})
    with pytest.raises(Refused, match="404 unknown_idempotency_key"):
        client.usage_release(workspace="acme", idempotency_key=uuid4().hex)


def test_what_was_committed_is_given_back_by_the_key_of_its_reservation(client):
    before = used(client)
    hold = client.reserve("recording.start", minutes=5, **WHERE)
    hold.commit(minutes=4)

    back = client.usage_release(workspace="acme", idempotency_key=hold.decision.idempotency_key)

    assert back.amounts == {"minutes": 4}
    assert used(client) == before


def test_a_thing_is_made_once_and_given_back_by_its_name(client):
    before, thing = used(client, "scenarios.create", "scenarios"), uuid4().hex
    first, again = (client.consume("scenarios.create", resource=thing, **WHERE) for _ in range(2))

    assert (first.replayed, again.replayed) == (False, True)
    assert used(client, "scenarios.create", "scenarios") == before + 1
    back, twice = (
        client.usage_release(workspace="acme", meter="scenarios", resource=thing) for _ in range(2)
    )
    assert (back.amounts, back.replayed) == ({"scenarios": 1}, False)
    assert (twice.amounts, twice.replayed) == ({"scenarios": 0}, True)
    assert used(client, "scenarios.create", "scenarios") == before


def test_entitlements_say_what_the_decisions_say(client):
    has = client.entitlements(**WHERE)

    assert (has.workspace.slug, has.workspace.role, has.workspace.plan) == ("acme", "member", "team")
    assert has.features["team_sessions"] is True
    assert has.actions["members.invite"] is False
    assert has.quotas["minutes"].used == used(client)
    by_id = client.check("roleplay.start", user="mia", workspace=has.workspace.id)
    assert by_id.workspace is not None
    assert (by_id.workspace.id, by_id.workspace.slug) == (has.workspace.id, "acme")


def test_a_user_has_workspaces_and_a_stranger_none(client):
    client.check("roleplay.start", **WHERE)

    assert [each.slug for each in client.workspaces_of("mia", action="roleplay.start")] == ["acme"]
    assert list(client.workspaces_of("mia", action="members.invite")) == []
    assert list(client.workspaces_of("nobody")) == []
