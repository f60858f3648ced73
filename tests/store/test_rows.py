"""authz.facts_for and authz.plain_facts give what authz.facts gives, without what was not asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.decisions.model import Usage
from sidecar.errors import FactsMisread
from sidecar.store.facts_token import FactsToken
from sidecar.store.names import Spoken
from sidecar.store.postgres import facts_in
from sidecar.store.rows import PlainRow, each_plain_row_in, plain_rows_in, rows_in
from sidecar.store.session import array
from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres

MORE_METERS = """
    INSERT INTO authz.meters (name, kind, per, anchor) VALUES
        ('calls', 'counter', 'day', 'calendar'),
        ('exports', 'counter', 'month', 'subscription'),
        ('trials', 'counter', 'ever', 'calendar')
"""
METERS = ("calls", "exports", "members", "minutes", "scenarios", "trials")
ALL = """SELECT authz.facts(%(users)s, %(ws)s)::text, authz.facts_for(%(users)s, %(ws)s, %(meters)s)::text,
    authz.plain_facts(%(users)s, %(ws)s)::text"""

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
seconds = st.sampled_from([-86_400 * 40, -1, 0, 1, 3600, 86_400 * 6])
counts = st.integers(0, 10**12)
overrides = st.dictionaries(
    st.tuples(st.just("feature"), st.sampled_from(["analytics", "video_avatar", "gone"]))
    | st.tuples(st.just("limit"), st.sampled_from([*METERS, "gone"])),
    st.tuples(st.booleans(), st.none() | counts, st.none() | seconds),
    max_size=6,
)
worlds = st.fixed_dictionaries(
    {
        "name": texts,
        "plan": st.sampled_from(["starter", "team", "undeclared"]),
        "role": st.sampled_from(["owner", "admin", "member"]) | texts,
        "status": st.sampled_from(["active", "suspended"]),
        "subscribed": st.datetimes(datetime(2001, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
        "overrides": overrides,
        "usage": st.dictionaries(st.sampled_from(METERS), st.tuples(seconds, counts, st.none() | seconds)),
        "holds": st.lists(
            st.tuples(st.sampled_from(METERS), st.integers(1, 9), seconds, seconds), max_size=4
        ),
        "invitations": st.lists(seconds, max_size=3),
    }
)
subsets = st.none() | st.lists(st.sampled_from(METERS), unique=True)


@pytest.fixture(scope="module")
def url(database_url):
    run(
        database_url, MORE_METERS, "INSERT INTO authz.plans (name, rank) VALUES ('undeclared', 99)", "ANALYZE"
    )
    return database_url


@pytest.fixture(scope="module")
def connection(url):
    with psycopg.connect(url) as connection:
        yield connection


def build(connection, number, world):
    slug, id_ = f"world-{number}", uuid4()
    at = "statement_timestamp() + make_interval(secs => %s)"
    connection.execute(
        """INSERT INTO authz.workspaces (id, slug, name, plan_tier, status, subscribed_at)
        VALUES (%s, %s, %s, %s, %s, %s)""",
        (id_, slug, world["name"], world["plan"], world["status"], world["subscribed"]),
    )
    connection.execute(
        "INSERT INTO authz.workspace_memberships VALUES (%s, %s, %s)", (id_, f"user-{number}", world["role"])
    )
    for (kind, name), (enabled, at_most, ends) in world["overrides"].items():
        connection.execute(
            f"""INSERT INTO authz.workspace_features (workspace_id, kind, name, enabled, at_most, expires_at)
            VALUES (%s, %s, %s, %s, %s, {at})""",
            (id_, kind, name, *((enabled, None) if kind == "feature" else (None, at_most)), ends),
        )
    for meter, (start, used, held_until) in world["usage"].items():
        connection.execute(
            f"""INSERT INTO authz.workspace_usage (workspace_id, meter, period_start, used, held_until)
            VALUES (%s, %s, {at}, %s, {at})""",
            (id_, meter, start, used, held_until),
        )
    for place, (meter, amount, start, ends) in enumerate(world["holds"]):
        connection.execute(
            f"INSERT INTO authz.usage_holds VALUES (%s, %s, %s, %s, {at}, {at})",
            (id_, meter, f"r{place}", amount, start, ends),
        )
    for place, ends in enumerate(world["invitations"]):
        connection.execute(
            f"""INSERT INTO authz.workspace_invitations
            VALUES (%s, gen_random_uuid(), %s, 'member', 'x', sha256(%s), {at}, {at})""",
            (id_, f"{place}@example.com", uuid4().bytes, ends - 60, ends),
        )
    return slug, str(id_)


def restricted(facts, wanted):
    """*facts* as a question gets them that needs nothing but *wanted*."""
    return replace(
        facts,
        limit_overrides={name: most for name, most in facts.limit_overrides.items() if name in wanted},
        usage={meter: facts.usage[meter] for meter in wanted},
        token=replace(facts.token, periods={meter: facts.token.periods[meter] for meter in wanted}),
    )


def without_ends(facts):
    """The full read does not say when what is reserved ends."""
    return replace(
        facts, usage={meter: replace(usage, frees_at=None) for meter, usage in facts.usage.items()}
    )


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    made=st.lists(worlds, min_size=1, max_size=3),
    asked=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["slug", "id", "ID"]), subsets),
        max_size=6,
    ),
)
def test_whatever_the_world_the_lean_read_agrees_with_the_full_one(connection, made, asked):
    places = [build(connection, number, world) for number, world in enumerate(made)]
    places += [("nowhere", str(uuid4()))] * (4 - len(places))
    asked = [(number, number, "slug", None) for number in range(len(made))] + asked
    workspaces = [
        {"slug": places[place][0], "id": places[place][1], "ID": places[place][1].upper()}[form]
        for _, place, form, _ in asked
    ]
    params = {
        "users": [f"user-{user}" for user, *_ in asked],
        "ws": workspaces,
        "meters": [None if wanted is None else ",".join(wanted) for *_, wanted in asked],
    }
    full, lean, plain = connection.execute(ALL, params).fetchone()
    connection.rollback()

    expected = [row and facts_in(row, meters=METERS) for row in json.loads(full)]
    found = rows_in(lean.encode(), meters=[METERS if wanted is None else wanted for *_, wanted in asked])

    assert None not in found[: len(made)]
    assert [facts and without_ends(facts) for facts in found] == [
        facts if facts is None or wanted is None else restricted(facts, wanted)
        for facts, (*_, wanted) in zip(expected, asked, strict=True)
    ]
    plain_rows, at = plain_rows_in(plain.encode(), questions=len(asked), spoken=Spoken())
    assert [row and row.facts(at) for row in plain_rows] == [
        facts and replace(plainly := restricted(facts, ()), token=replace(plainly.token, until=None))
        for facts in expected
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.from_regex(r"[0-9a-fA-F-]{36}", fullmatch=True)
    | st.from_regex(r"[0-9a-g]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{11,12}\n?", fullmatch=True)
    | texts
)
def test_what_is_no_uuid_names_no_workspace_and_is_no_error(connection, text):
    assert connection.execute(
        "SELECT authz.facts_for(ARRAY['adam'], ARRAY[%s], ARRAY[''])::text", (text,)
    ).fetchone() == ("[null]",)
    assert connection.execute(
        "SELECT authz.plain_facts(ARRAY['adam'], ARRAY[%s]) ->> 'rows'", (text,)
    ).fetchone() == ("[null]",)


def test_one_text_of_meters_is_needed_for_each_question(connection):
    for meters in ("'{}'", "'{minutes,minutes}'", "NULL"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="one text for each of 1 users"):
            connection.execute(f"SELECT authz.facts_for('{{adam}}', '{{acme}}', {meters})")
        connection.rollback()


def test_one_workspace_is_needed_for_each_user(connection):
    for workspaces in ("'{}'", "'{acme,acme}'", "NULL"):
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="one text for each of 1 users"):
            connection.execute(f"SELECT authz.plain_facts('{{adam}}', {workspaces})")
        connection.rollback()


def test_the_plain_read_knows_external_ids_and_who_was_deleted(connection):
    connection.execute("UPDATE authz.workspaces SET external_id = 'x7' WHERE slug = 'acme'")
    connection.execute("INSERT INTO authz.deleted_users (id) VALUES ('adam')")
    workspaces = ["ext:x7", "acme", "ext:none"]
    kinds = "SELECT json_typeof(r) FROM json_array_elements(authz.plain_facts(%s, %s) -> 'rows') AS r"
    [of_adam, of_member] = (
        [kind for (kind,) in connection.execute(kinds, ([user] * 3, workspaces))] for user in ("adam", "mia")
    )
    connection.rollback()

    assert of_adam == ["null"] * 3
    assert of_member == ["array", "array", "null"]


READS = {
    **{f"facts_for {meters}": ("authz.facts_for(%s, %s, %s)", [meters]) for meters in ("", "minutes", None)},
    "plain_facts": ("authz.plain_facts(%s, %s)", []),
}


@pytest.mark.parametrize("read", READS)
def test_rows_are_read_by_index_even_where_the_tables_are_tiny(url, read):
    function, meters = READS[read]
    with psycopg.connect(url) as connection:
        connection.execute(
            f"SELECT {function}",
            (["adam", "x", "adam"], ["acme", "acme", "nowhere"], *([each] * 3 for each in meters)),
        )
        scans = connection.execute(
            "SELECT sum(seq_scan), sum(idx_scan) > 0 FROM pg_stat_xact_user_tables WHERE schemaname = 'authz'"
        ).fetchone()

    assert scans == (0, True)


def test_one_membership_is_read_of_a_user_who_has_come_to_have_many(connection):
    """The statistics say that a user has one."""
    connection.execute(
        """WITH w AS (
            INSERT INTO authz.workspaces (slug, name, plan_tier) SELECT 'many-' || n, 'x', 'pro'
            FROM generate_series(1, 50) AS n RETURNING id
        )
        INSERT INTO authz.workspace_memberships SELECT id, 'rover', 'member' FROM w"""
    )
    counted = "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'workspace_memberships'"
    before = connection.execute(counted).fetchone()
    connection.execute("SELECT authz.facts_for('{rover}', '{many-7}', '{\"\"}')")
    between = connection.execute(counted).fetchone()
    connection.execute("SELECT authz.plain_facts('{rover}', '{many-7}')")
    after = connection.execute(counted).fetchone()
    connection.rollback()

    assert before
    assert between == (before[0] + 1,)
    assert after == (before[0] + 2,)


@pytest.mark.parametrize("read", ["facts_for ", "facts_for minutes", "plain_facts"])
@pytest.mark.parametrize("form", ["slug", "id"])
def test_all_who_are_not_members_are_looked_for_in_the_same_way(url, read, form):
    function, meters = READS[read]
    [(acme,)] = rows(url, "SELECT id::text FROM authz.workspaces WHERE slug = 'acme'")
    asked = []
    for workspace in ("acme", "nowhere") if form == "slug" else (acme, str(uuid4())):
        with psycopg.connect(url) as connection:
            connection.execute(f"SELECT {function}", (["nobody"], [workspace], *([each] for each in meters)))
            asked.append(
                connection.execute(
                    """SELECT relname, idx_scan FROM pg_stat_xact_user_tables
                    WHERE schemaname = 'authz' ORDER BY relname"""
                ).fetchall()
            )

    assert asked[0] == asked[1]
    assert ("workspace_memberships", 1) in asked[0]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    given=st.lists(
        st.none()
        | st.text(st.characters(exclude_categories=[]))
        | st.sampled_from(["", "NULL", '"', "\\", '","', "{}", "a,b", " a ", "\0", "\ud800"])
    )
)
def test_any_text_arrives_as_itself_or_as_null(connection, given):
    result = connection.pgconn.exec_params(b"SELECT to_json($1::text[])", [array(given)])

    assert json.loads(result.get_value(0, 0)) == [
        None if text is None or any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text) else text
        for text in given
    ]


USED = {
    "minutes": [1, 0, "2026-12-01T00:00:00+00:00", "2026-11-01T00:00:00+00:00"],
    "members": [1, 0, None, "-infinity"],
}
GOOD = {
    "workspace_id": "3f2b8a52-1111-4222-8333-444455556666",
    "slug": "acme",
    "name": "Acme",
    "role": "member",
    "plan": "team",
    "status": "active",
    "features": {"analytics": True},
    "limits": {"minutes": None, "members": 3},
    "usage": USED,
    "until": "2026-11-30T00:00:00+00:00",
    "version": 1,
    "at": "2026-11-24T12:00:00+00:00",
}
WANTED = ("minutes", "members")


def read(*found):
    return rows_in(json.dumps(found).encode(), meters=[WANTED] * len(found))


def row(**changed):
    return list((GOOD | changed).values())


def test_a_row_within_the_contract_is_read():
    [found] = read(row())

    assert found.workspace_id == UUID("3f2b8a52-1111-4222-8333-444455556666")
    assert (found.slug, found.name, found.role, found.plan, found.status) == (
        ("acme", "Acme", "member", "team", "active")
    )
    assert (found.feature_overrides, found.limit_overrides) == (GOOD["features"], GOOD["limits"])
    assert found.usage == {
        "minutes": Usage(used=1, reserved=0, resets_at=datetime(2026, 12, 1, tzinfo=UTC)),
        "members": Usage(used=1, reserved=0, resets_at=None),
    }
    assert found.at == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert found.token == FactsToken(
        version=1,
        periods={"minutes": "2026-11-01T00:00:00+00:00", "members": "-infinity"},
        until="2026-11-30T00:00:00+00:00",
    )


def test_a_column_of_a_later_migration_is_ignored():
    assert read([*row(), None, None, "later"]) == read([*row(), None]) == read(row())


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "frozen"},
        {"status": None},
        {"slug": None},
        {"name": 7},
        {"role": None},
        {"plan": 7},
        {"workspace_id": "acme"},
        {"workspace_id": None},
        {"usage": {"minutes": USED["minutes"]}},
        {"usage": None},
        {"usage": {**USED, "minutes": None}},
        {"usage": {**USED, "minutes": [True, 0, None, ""]}},
        {"usage": {**USED, "minutes": [-1, 0, None, ""]}},
        {"usage": {**USED, "minutes": [0, -1, None, ""]}},
        {"usage": {**USED, "minutes": [1.5, 0, None, ""]}},
        {"usage": {**USED, "minutes": [1, 0, None]}},
        {"usage": {**USED, "minutes": [1, 0, None, "", ""]}},
        {"usage": {**USED, "minutes": [1, 0, "soon", ""]}},
        {"usage": {**USED, "minutes": [1, 0, "2026-12-01T00:00:00", ""]}},
        {"usage": {**USED, "minutes": [1, 0, None, 1]}},
        {"usage": {**USED, "minutes": [1, 0, None, None]}},
        {"features": {"analytics": "true"}},
        {"features": {"analytics": 1}},
        {"features": None},
        {"until": 7},
        {"limits": {"minutes": "unlimited"}},
        {"limits": {"minutes": True}},
        {"limits": {"minutes": -1}},
        {"limits": {"minutes": 1.5}},
        {"limits": None},
        {"version": "1"},
        {"version": True},
        {"version": None},
        {"at": "infinity"},
        {"at": "2026-11-24T12:00:00"},
        {"at": None},
    ],
    ids=str,
)
def test_a_row_outside_the_contract_is_misread_in_its_place_and_the_others_are_there(wrong):
    before, bad, stranger, after = read(row(), row(**wrong), None, row(slug="after"))

    assert (before.slug, stranger, after.slug) == ("acme", None, "after")
    assert isinstance(bad, FactsMisread)
    assert "outside" in bad.detail


@pytest.mark.parametrize("bad", [7, "acme", [], {}, row()[:-1], GOOD, [None] * len(GOOD)], ids=str)
def test_what_is_no_row_is_misread_in_its_place(bad):
    found, good = read(bad, row())

    assert isinstance(found, FactsMisread)
    assert good.slug == "acme"


@pytest.mark.parametrize(
    "raw", [b"", b"7", b"{}", b"null", b"[", b"[null", b"[]", b"[null, null]", b"[\xff]", b"[null] x"]
)
def test_an_answer_that_is_no_list_of_a_row_for_each_question_is_misread(raw):
    with pytest.raises(FactsMisread):
        rows_in(raw, meters=[()])


def test_of_plain_rows_one_that_cannot_be_read_is_told_in_its_place():
    spoken = Spoken(stored={"role": {"member": "colleague"}, "feature": {"chat": "talk"}})
    row = [str(uuid4()), "acme", "Acme", "colleague", "pro", "active", {"talk": True}, 3]
    found = {"at": "2026-11-29T06:14:40+00:00", "rows": [row, [*row[:-1], "three"], None]}

    read = partial(each_plain_row_in, spoken=spoken)
    rows, at = read(json.dumps(found).encode(), questions=3)

    assert at.isoformat() == found["at"]
    [good, bad, nobody] = rows
    assert isinstance(good, PlainRow)
    assert isinstance(bad, FactsMisread)
    assert (good.role, good.overrides, nobody) == ("member", {"chat": True}, None)
    for raw, questions in ((found, 2), (found | {"at": "now"}, 3), ([], 0)):
        with pytest.raises(FactsMisread):
            read(json.dumps(raw).encode(), questions=questions)
