"""Searches in pages, over our own domain: what an evaluation grants is found once, and nothing else."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.api.authzen.domain import Answer
from sidecar.api.authzen.wire import KINDS, Action, Entity, Evaluation, Search
from sidecar.api.authzen.workspaces import Workspaces
from sidecar.decisions.authorizer import MAX_ROWS_SCANNED, Authorizer
from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.decisions.steps import run
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.memo import MemoisedEngine
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.telemetry.metrics import Metrics
from tests.api.stage import BACKEND, a_stage
from tests.fakes import FactsInMemory
from tests.values import FAR_AWAY, some_facts

WHO = {"subject": {"type": "user"}, "action": {"name": "platform.use"}, "resource": {"type": "workspace"}}
ACTIONS = 16


def a_crowd(members, *, may=lambda _: True):
    return a_stage(
        {
            (f"u{number:04}", "acme"): some_facts(role="member" if may(number) else "janitor")
            for number in range(members)
        }
    )


def asked(kind, **page):
    body = {part: dict(named) for part, named in WHO.items()}
    body["subject"]["id"], body["resource"]["id"] = "u0000", "acme"
    return body | ({"page": page} if page else {})


def search(stage, kind, body):
    return stage.client.post(
        f"/access/v1/search/{kind}", json=body, headers={"Authorization": f"Bearer {BACKEND}"}
    )


def pages(stage, kind, body):
    """Each page until the end, as a client goes through them."""
    found = []
    while True:
        answer = search(stage, kind, body).json
        found.append([list(each.values())[-1] for each in answer["results"]])
        if not answer.get("page", {}).get("next_token"):
            return found
        body = body | {"page": {"token": answer["page"]["next_token"]}}


def test_all_of_it_comes_without_a_page_where_it_fits():
    answer = search(a_crowd(100), "subject", asked("subject")).json

    assert list(answer) == ["results"]
    assert len(answer["results"]) == 100


def test_more_than_a_page_holds_comes_with_a_token_to_go_on_with():
    stage = a_crowd(101)
    first = search(stage, "subject", asked("subject")).json
    second = search(stage, "subject", asked("subject", token=first["page"]["next_token"])).json

    assert list(first) == ["page", "results"]
    assert list(first["page"]) == ["next_token", "count"]
    assert (first["page"]["count"], len(first["results"]), first["page"]["next_token"] != "") == (
        100,
        100,
        True,
    )
    assert second == {"page": {"next_token": "", "count": 1}, "results": [{"type": "user", "id": "u0100"}]}


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1_000])
@pytest.mark.parametrize("members", [0, 1, 6, 7])
def test_pages_give_everybody_once_and_in_order(limit, members):
    stage = a_crowd(members, may=lambda number: number % 3 != 1)

    found = pages(stage, "subject", asked("subject", limit=limit))

    assert [name for page in found for name in page] == [
        f"u{number:04}" for number in range(members) if number % 3 != 1
    ]
    assert all(len(page) == limit for page in found[:-1])


@pytest.mark.parametrize("limit", [1, 2, 3, 5])
def test_workspaces_and_actions_come_in_pages_too(limit):
    stage = a_stage(
        {
            ("u0000", slug): replace(some_facts(), slug=slug, workspace_id=UUID(int=number))
            for number, slug in enumerate(["acme", "b", "c-1", "c1", "z"])
        }
    )

    workspaces = pages(stage, "resource", asked("resource", limit=limit))
    actions = pages(stage, "action", asked("action", limit=limit))

    assert [name for page in workspaces for name in page] == ["acme", "b", "c-1", "c1", "z"]
    names = [name for page in actions for name in page]
    assert names == sorted(set(names))
    assert len(names) > 5
    assert all(len(page) == limit for found in (workspaces, actions) for page in found[:-1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_of_none_tells_only_whether_there_is_something(kind):
    stage = a_crowd(2)

    something = search(stage, kind, asked(kind, limit=0)).json
    nothing = search(stage, kind, asked(kind, limit=0) | {"subject": {"type": "robot", "id": "r2"}}).json
    again = search(stage, kind, asked(kind, token=something["page"]["next_token"])).json

    assert (something["results"], something["page"]["next_token"] != "") == ([], True)
    assert nothing == {"page": {"next_token": "", "count": 0}, "results": []}
    assert again == something


def test_a_page_looks_at_a_bounded_number_of_members_with_one_read(monkeypatch):
    stage = a_crowd(MAX_ROWS_SCANNED + 5, may=lambda number: number > MAX_ROWS_SCANNED)
    reads = []
    members_of = stage.facts.members_of

    def counted(*args, **options):
        reads.append(args)
        return members_of(*args, **options)

    monkeypatch.setattr(stage.facts, "members_of", counted)

    first = search(stage, "subject", asked("subject")).json
    second = search(stage, "subject", asked("subject", token=first["page"]["next_token"])).json

    assert (first["results"], first["page"]["count"]) == ([], 0)
    assert [each["id"] for each in second["results"]] == ["u1001", "u1002", "u1003", "u1004"]
    assert second["page"]["next_token"] == ""
    assert len(reads) == 2


def test_a_verdict_is_asked_for_once_a_role_and_not_once_a_member(monkeypatch):
    stage = a_crowd(500, may=lambda number: number % 2 == 0)
    situations, verdict = [], stage.engine.verdict

    def noted(situation, **options):
        situations.append(situation)
        return verdict(situation, **options)

    monkeypatch.setattr(stage.engine, "verdict", noted)

    search(stage, "subject", asked("subject", limit=1_000))

    assert len(situations) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change",
    [
        {"subject": {"type": "user", "id": "u0001", "properties": {"x": 1}}},
        {"subject": {"type": "robot", "id": "u0000"}},
        {"resource": {"type": "workspace", "id": "b", "properties": {"x": 1}}},
        {"context": {"x": 1}},
    ],
    ids=str,
)
def test_a_token_is_good_for_its_own_search_alone(kind, change):
    stage = a_crowd(3)
    token = search(stage, kind, asked(kind, limit=0)).json["page"]["next_token"]

    answer = search(stage, kind, asked(kind, token=token) | change)

    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (400, "/page/token")


def test_a_token_of_one_kind_of_search_is_none_of_another():
    stage = a_crowd(3)
    tokens = {kind: search(stage, kind, asked(kind, limit=0)).json["page"]["next_token"] for kind in KINDS}

    for kind in KINDS:
        for other in KINDS:
            answer = search(stage, kind, asked(kind, token=tokens[other]))
            assert answer.status_code == (200 if kind == other else 400)


def test_the_limit_may_be_left_out_or_said_again_but_not_changed():
    stage = a_crowd(5)
    token = search(stage, "subject", asked("subject", limit=2)).json["page"]["next_token"]

    left_out = search(stage, "subject", asked("subject", token=token)).json
    again = search(stage, "subject", asked("subject", token=token, limit=2)).json
    changed = search(stage, "subject", asked("subject", token=token, limit=3))

    assert [each["id"] for each in left_out["results"]] == ["u0002", "u0003"]
    assert again == left_out
    assert (changed.status_code, changed.json["errors"][0]["pointer"]) == (400, "/page/limit")


def test_a_limit_that_was_not_said_at_first_is_a_changed_one():
    stage = a_crowd(101)
    token = search(stage, "subject", asked("subject")).json["page"]["next_token"]

    assert search(stage, "subject", asked("subject", token=token, limit=100)).status_code == 400


def test_what_is_not_looked_at_may_change_with_a_token():
    stage = a_crowd(3)
    token = search(stage, "subject", asked("subject", limit=2)).json["page"]["next_token"]
    body = asked("subject", token=token, future=1) | {"foo": "bar", "subject": {"type": "user", "id": "eve"}}

    assert search(stage, "subject", body).json["results"] == [{"type": "user", "id": "u0002"}]


def test_an_empty_token_is_the_first_page():
    stage = a_crowd(3)

    assert [
        each["id"] for each in search(stage, "subject", asked("subject", token="", limit=1)).json["results"]
    ] == ["u0000"]


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "=",
        "a" * 8_000,
        "ä",
        "a a",
        urlsafe_b64encode(b"\0" * 18).decode(),
        urlsafe_b64encode(b"\xff" * 40).decode(),
    ],
)
def test_what_is_no_token_is_400(token):
    answer = search(a_crowd(1), "subject", asked("subject", token=token))

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["errors"][0]["pointer"] == "/page/token"


# --- what is found, and what an evaluation says


COMPILED = compiled_at(shipped("plans.yaml"), shipped("policies"))
POLICY = MemoisedEngine(
    EmbeddedEngine(COMPILED.modules, COMPILED.data, revision=COMPILED.revision),
    cells=map(situation_bytes, cells(COMPILED.catalog)),
)
USERS = ["ada", "bob", "cyd"]
SLUGS = ["one", "two"]
DECLARED = [*COMPILED.catalog.declared_actions]


def workspaces():
    usage = st.fixed_dictionaries(
        {meter: st.sampled_from([0, 9, 10, 99, 100]) for meter in COMPILED.catalog.meters}
    )
    return st.fixed_dictionaries(
        {
            "plan": st.sampled_from(["starter", "pro", "team", "gold"]),
            "status": st.sampled_from(["active", "suspended"]),
            "usage": usage,
            "feature_overrides": st.dictionaries(
                st.sampled_from(["analytics", "team_sessions"]), st.booleans()
            ),
            "limit_overrides": st.dictionaries(
                st.sampled_from(["minutes", "scenarios"]), st.sampled_from([None, 0, 99])
            ),
            "roles": st.dictionaries(
                st.sampled_from(USERS), st.sampled_from(["owner", "admin", "member", "janitor"])
            ),
        }
    )


def about(user, workspace, action, minutes):
    amounts = {"amounts": {"minutes": minutes}} if minutes and action == "recording.start" else None
    return Evaluation(
        subject=Entity(type="user", id=user, properties=None),
        action=Action(name=action, properties=amounts),
        resource=Entity(type="workspace", id=workspace, properties=None),
        context=None,
    )


def all_found(domain, kind, evaluation, limit):
    names, after = [], ""
    search = Search(kind=kind, about=evaluation, page=False, token=None, limit=None)
    while True:
        found = domain.found(search, after=after, limit=limit, deadline=FAR_AWAY)
        names += found.names
        if found.next is None:
            return names
        after = found.next


@settings(deadline=None, max_examples=60)
@given(
    st.fixed_dictionaries({slug: workspaces() for slug in SLUGS}),
    st.sampled_from([1, 2, 50]),
    st.sampled_from([0, 1, 5]),
)
def test_what_is_found_is_what_an_evaluation_grants(world, limit, minutes):
    """Over every user, workspace and declared action; strangers and what is not there included."""
    facts = {}
    for number, (slug, workspace) in enumerate(world.items()):
        fields = {name: value for name, value in workspace.items() if name != "roles"}
        for user, role in workspace["roles"].items():
            own = some_facts(role=role, **fields)
            facts[user, slug] = replace(own, slug=slug, workspace_id=UUID(int=number))
    metrics = Metrics(engine="embedded", revision="r1")
    authorizer = Authorizer(
        catalog=COMPILED.catalog,
        context_fields=frozenset(),
        policy=POLICY,
        facts=FactsInMemory(facts),
    )
    domain = Workspaces(authorizer, metrics=metrics)
    users, slugs = [*USERS, "eve"], [*SLUGS, "nowhere"]

    def granted(user, slug, action, minutes=minutes):
        [answer] = run(domain.answering([about(user, slug, action, minutes)], deadline=FAR_AWAY))
        assert isinstance(answer, Answer)
        return answer.decision

    table = {(u, s, a): granted(u, s, a) for u in users for s in slugs for a in DECLARED}

    for action in DECLARED:
        for slug in slugs:
            expected = [user for user in users if table[user, slug, action]]
            assert all_found(domain, "subject", about("", slug, action, minutes), limit) == sorted(expected)
        for user in users:
            expected = [slug for slug in slugs if table[user, slug, action]]
            assert all_found(domain, "resource", about(user, "", action, minutes), limit) == sorted(expected)
    for user in users:
        for slug in slugs:
            expected = [action for action in DECLARED if granted(user, slug, action, minutes=0)]
            assert all_found(domain, "action", about(user, slug, "", 0), limit) == sorted(expected)
