"""What a new catalog does to the rows of a database: all is carried along, or it is refused."""

from __future__ import annotations

from random import Random

import pytest

from sidecar.errors import ConfigError
from sidecar.store.migrate import migrate
from tests.postgres_server import a_database, rows, run
from tests.store.renaming import COUNTER, LEVEL, SEATS, Written, a_reader, published, rights_of

pytestmark = pytest.mark.postgres

PEOPLE = [("ann", "one"), ("ben", "one"), ("ann", "two"), ("cid", "two")]
WORLD = """
    INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('one', 'One', 'pro'), ('two', 'Two', 'free');
    INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
    SELECT w.id, m.user_id, m.role
    FROM (VALUES
        ('one', 'ann', 'editor'), ('one', 'ben', 'viewer'), ('two', 'ann', 'viewer'), ('two', 'cid', 'editor')
    ) AS m (slug, user_id, role)
    JOIN authz.workspaces AS w ON w.slug = m.slug;
"""


OF_WORKSPACES = """
    SELECT * FROM authz.outbox WHERE workspace_id <> '00000000-0000-0000-0000-000000000000' ORDER BY id
"""


@pytest.fixture(scope="module")
def template(postgres_server):
    for made in a_database(postgres_server, template="template0"):
        migrate(made, catalog=Written().catalog(), revision="r0")
        run(made, WORLD)
        yield made.rpartition("/")[2].partition("?")[0]


@pytest.fixture
def url(postgres_server, template):
    """Whatever was published: the history tells of the same world as the tables, by its names."""
    for made in a_database(postgres_server, template=template):
        yield made
        assert rows(made, "SELECT * FROM authz.unaccounted()") == []


def one(url, query):
    [(value,)] = rows(url, query)
    return value


def use(url, **used):
    """In workspace one; what is not named is used no more."""
    meters, amounts = list(used), [str(each) for each in used.values()]
    rows(
        url,
        "SELECT authz.set_usage(w.id, %s, %s::bigint[]) FROM authz.workspaces AS w WHERE w.slug = 'one'",
        meters,
        amounts,
    )


def override(url, features="{}", limits="{}"):
    rows(url, "SELECT authz.set_overrides('one', %s, %s)", features, limits)


def refused(url, written, revision="r1", *, before="r0"):
    """The lines that it is refused with, and nothing was published."""
    with pytest.raises(ConfigError) as error:
        published(url, written.catalog(), revision)
    assert one(url, "SELECT revision FROM authz.catalog") == before
    return [problem.detail for problem in error.value.problems]


def test_a_feature_with_an_override_cannot_change_its_name_silently(url):
    override(url, '{"video": false}')

    first, last = refused(url, Written(features={"film": None, "sso": None}))

    assert first.startswith('feature "video" is gone; overrides of it: 1, for example "one" has it false')
    assert last.startswith("nothing was published; sidecar migrate --accept loss")
    assert one(url, "SELECT name FROM authz.workspace_features") == "video"


def test_nor_can_a_meter_that_is_limited_or_used_or_reserved(url):
    override(url, limits='{"minutes": 5}')
    use(url, items=7)
    run(
        url,
        """INSERT INTO authz.usage_holds SELECT id, 'minutes', 'r', 3, '-infinity', now() + interval '1 hour'
        FROM authz.workspaces WHERE slug = 'two'""",
        """INSERT INTO authz.workspace_usage SELECT id, 'minutes', '-infinity', 0, now() + interval '1 hour'
        FROM authz.workspaces WHERE slug = 'two'""",
    )

    lines = refused(url, Written(meters={"seats": (SEATS, None)}))

    assert [line.split(";")[1] for line in lines[:-1]] == [
        ' overrides of its limit: 1, for example that of "one" is 5',
        ' workspaces with usage of it: 1, for example "one" (7 used, 0 reserved)',
        ' workspaces with usage of it: 1, for example "two" (0 used, 3 reserved)',
    ]


@pytest.mark.parametrize("how", [LEVEL, "kind: counter, per: ever", f"{COUNTER}, anchor: subscription"])
def test_a_meter_with_usage_keeps_its_shape(url, how):
    use(url, minutes=3)
    changed = Written()
    changed.meters["minutes"] = (how, None)

    assert refused(url, changed)[0].startswith(
        'meter "minutes" is counted otherwise; workspaces with usage of it: 1'
    )


def test_who_is_counted_by_the_database_counts_as_usage(url):
    changed = Written(meters={"minutes": (COUNTER, None), "items": (SEATS, None), "seats": (LEVEL, None)})

    lines = refused(url, changed)

    assert [line.split(";")[1] for line in lines[:-1]] == [
        ' workspaces with members: 2, for example "one" (2 members)'
    ] * 2


@pytest.mark.parametrize("counts", [SEATS, "kind: level, counts: owned"])
@pytest.mark.parametrize("becomes", [None, LEVEL, COUNTER])
def test_a_meter_that_the_database_counts_neither_goes_nor_is_counted_otherwise_silently(
    url, counts, becomes
):
    with_it, without = Written(), Written()
    with_it.meters["seats"] = (counts, None)
    published(url, with_it.catalog(), "r1", accept_loss=True)
    if becomes is None:
        del without.meters["seats"]
    else:
        without.meters["seats"] = (becomes, None)

    lines = refused(url, without, "r2", before="r1")

    assert [line.split(";")[1] for line in lines[:-1]] == [
        ' workspaces with members: 2, for example "one" (2 members)'
    ]
    assert published(url, without.catalog(), "r2", accept_loss=True).warnings != ()


def test_a_role_is_held_by_members_and_invitations_and_in_deleted_workspaces(url):
    run(
        url,
        """INSERT INTO authz.workspace_invitations
        SELECT id, gen_random_uuid(), 'dan@example.com', 'viewer', 'ann', sha256('t'), now(),
            now() + interval '1 day'
        FROM authz.workspaces WHERE slug = 'two'""",
        "INSERT INTO authz.workspaces (slug, name, plan_tier) VALUES ('old', 'Old', 'free')",
        """INSERT INTO authz.workspace_memberships SELECT id, 'eve', 'viewer' FROM authz.workspaces
        WHERE slug = 'old'""",
        "SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces WHERE slug = 'old'",
    )

    lines = refused(url, Written(roles={"editor": None}))

    assert [line.split(";")[1] for line in lines[:-1]] == [
        ' members who hold it: 2, for example "ben" in "one"',
        ' open invitations that offer it: 1, for example to "dan@example.com" in "two"',
        ' members of deleted workspaces who held it: 1, for example "eve" in "old"',
    ]


def test_deleted_workspaces_on_a_plan_that_is_gone_move_by_themselves_and_others_never(url):
    run(url, "SELECT authz.delete_workspace(id, facts_version) FROM authz.workspaces WHERE slug = 'one'")

    result = published(url, Written(plans={"free": None}).catalog(), "r1")

    assert one(url, "SELECT plan_tier FROM authz.workspaces WHERE slug = 'one'") == "free"
    assert result.warnings[0].startswith('plan "pro" is gone; deleted workspaces that had it')
    with pytest.raises(ConfigError, match='"free" by 1 workspace \\(two\\)'):
        published(url, Written(plans={"pro": None}).catalog(), "r2", accept_loss=True)


def test_all_rows_take_the_new_names_and_the_outbox_stays(url):
    override(url, '{"video": false}', '{"minutes": 5}')
    use(url, minutes=3, items=2)
    run(
        url,
        "UPDATE authz.usage_ledger SET action = 'work.do'",
        """INSERT INTO authz.usage_keys (workspace_id, key, fingerprint, decision_id, answer, at, quota, held,
            meters, amounts, starts, expires_at)
        SELECT id, 'k', 'f', 'd', '{"role": "editor", "plan": "pro", "message": "m", "revision": "r0"}',
            now(), '{"minutes": [5, 3, 0, null]}', '{"id": "r", "amounts": {"minutes": 3}}',
            '{minutes,items}', '{3,1}', '{-infinity,-infinity}', 'infinity'
        FROM authz.workspaces WHERE slug = 'one'""",
        """INSERT INTO authz.usage_reservations (workspace_id, id, user_id, action, amounts, expires_at,
            decision_id, revision)
        SELECT id, 'r', 'ann', 'work.do', '{"minutes": 3}', now(), 'd', 'r0' FROM authz.workspaces
        WHERE slug = 'one'""",
    )
    before = rows(url, OF_WORKSPACES)

    published(url, all_renamed().catalog(), "r1")

    assert rows(url, "SELECT kind, name, enabled, at_most FROM authz.workspace_features ORDER BY 1") == [
        ("feature", "film", False, None),
        ("limit", "talk", None, 5),
    ]
    assert rows(url, "SELECT meter, used FROM authz.workspace_usage ORDER BY 1") == [
        ("talk", 3),
        ("things", 2),
    ]
    assert rows(url, "SELECT DISTINCT meter, action FROM authz.usage_ledger ORDER BY 1") == [
        ("talk", "job.do"),
        ("things", "job.do"),
    ]
    [(answer, quota, held, meters)] = rows(url, "SELECT answer, quota, held, meters FROM authz.usage_keys")
    assert (answer["role"], answer["plan"], answer["message"]) == ("author", "gold", "m")
    assert (quota, held["amounts"], meters) == ({"talk": [5, 3, 0, None]}, {"talk": 3}, ["talk", "things"])
    assert rows(url, "SELECT action, amounts FROM authz.usage_reservations") == [("job.do", {"talk": 3})]
    assert rows(url, OF_WORKSPACES) == before
    assert rows(url, "SELECT m.* FROM authz.workspaces AS w, authz.miscounts(w.id) AS m") == []


def all_renamed():
    return Written(
        roles={"reader": "viewer", "author": "editor"},
        features={"film": "video", "login": "sso"},
        meters={"talk": (COUNTER, "minutes"), "things": (LEVEL, "items"), "people": (SEATS, "seats")},
        plans={"none": "free", "gold": "pro"},
        actions={"job.do": "work.do", "job.make": "work.make"},
    )


def test_what_was_lost_on_purpose_is_not_shown_and_does_not_come_back(url):
    override(url, '{"video": false}', '{"minutes": 5}')
    use(url, minutes=3)
    without = Written(
        roles={"viewer": None},
        features={"sso": None},
        meters={"items": (LEVEL, None), "seats": (SEATS, None)},
    )

    result = published(url, without.catalog(), "r1", accept_loss=True)
    published(url, Written().catalog(), "r2")

    assert len(result.warnings) == 4
    with a_reader(url, Written().catalog(), "r2") as store:
        [ann, ben] = [as_seen(each, Written(), Written().meters) for each in rights_of(store, PEOPLE[:2])]
    assert (ben["role"], ben["features"], ben["limits"]) == ("viewer", {}, {})
    assert ben["usage"]["minutes"][:2] == (0, 0)
    assert ann["role"] is None
    assert one(url, "SELECT count(*) FROM authz.workspace_features") == 2


def test_a_meter_of_another_kind_starts_a_new_ledger(url):
    use(url, minutes=3)
    changed = Written()
    changed.meters["minutes"] = (LEVEL, None)

    published(url, changed.catalog(), "r1", accept_loss=True)

    with a_reader(url, changed.catalog(), "r1") as new, a_reader(url, Written().catalog(), "r0") as old:
        assert rights_of(new, PEOPLE[:1])[0]["usage"]["minutes"] == (0, 0, None)
        assert rights_of(old, PEOPLE[:1])[0]["usage"]["minutes"][0] == 3
    assert rows(url, "SELECT m.* FROM authz.workspaces AS w, authz.miscounts(w.id) AS m") == []


def test_two_revisions_before_the_published_one_are_answered_in_their_names(url):
    override(url, '{"video": false}', '{"minutes": 5}')
    use(url, minutes=3, items=2)
    first, second = Written(), all_renamed()
    # What r0 calls sso and video changes places with what r2 calls so.
    third = all_renamed()
    third.features = {"video": "login", "sso": "film"}
    with (
        a_reader(url, first.catalog(), "r0") as r0,
        a_reader(url, second.catalog(), "r1") as r1,
        a_reader(url, third.catalog(), "r2") as r2,
    ):
        before = rights_of(r0, PEOPLE)
        published(url, second.catalog(), "r1")
        assert rights_of(r0, PEOPLE) == before
        renamed = rights_of(r1, PEOPLE)
        published(url, third.catalog(), "r2")

        assert rights_of(r0, PEOPLE) == before
        assert rights_of(r1, PEOPLE) == renamed
        assert rights_of(r2, PEOPLE)[0]["features"] == {"sso": False}
        assert [each.role for each in r0.workspaces_of("ann", after=None, limit=9, deadline=9e9)] == [
            "editor",
            "viewer",
        ]
        assert dict(r0.members_of("one", after=None, limit=9, deadline=9e9).members)["ann"] == "editor"
        assert r0.missing(first.catalog(), deadline=9e9) == ()


def test_a_revision_that_is_published_again_takes_its_names_back(url):
    override(url, '{"video": false}', '{"minutes": 5}')
    use(url, minutes=3)
    with a_reader(url, Written().catalog(), "r0") as r0:
        before = rights_of(r0, PEOPLE)
        published(url, all_renamed().catalog(), "r1")
        published(url, Written().catalog(), "r0")

        assert rights_of(r0, PEOPLE) == before
        with a_reader(url, all_renamed().catalog(), "r1") as r1:
            assert rights_of(r1, PEOPLE)[0]["features"] == {"film": False}


NAMES = {
    "roles": ["viewer", "editor", "author", "guest"],
    "features": ["video", "sso", "film", "logs"],
    "meters": ["minutes", "items", "seats", "talk", "calls"],
    "plans": ["free", "pro", "gold"],
    "actions": ["work.do", "work.make", "job.do"],
}


def written_anew(random, before):
    """Each name is kept, renamed with and without saying so, or dropped; some are new or reshaped."""
    changed = Written({}, {}, {}, {}, {})
    for section, names in NAMES.items():
        then, now = getattr(before, section), getattr(changed, section)
        free = [name for name in names if name not in then]
        for name in then:
            how, former = (then[name][0], None) if section == "meters" else (None, None)
            name_now = name
            match random.choices(["keep", "rename", "forget", "drop", "reshape"], [12, 3, 1, 1, 1])[0]:
                case "rename" if free:
                    name_now, former = free.pop(random.randrange(len(free))), name
                case "forget" if free:
                    name_now = free.pop(random.randrange(len(free)))
                case "drop" if len(then) > 1 and section != "actions":
                    continue
                case "reshape" if how not in {None, SEATS}:
                    how = LEVEL if how == COUNTER else COUNTER
            now[name_now] = (how, former) if section == "meters" else former
        if free and random.random() < 0.2:
            now[free[0]] = (LEVEL, None) if section == "meters" else None
    return changed if all((changed.roles, changed.meters, changed.plans, changed.actions)) else before


def names_now(before, changed, section):
    """What has become of each name of *before*; a name that is not in it has gone."""
    then, now = getattr(before, section), getattr(changed, section)
    former = {name: each[1] if section == "meters" else each for name, each in now.items()}
    same = {name: name for name in then if name in now}
    return same | {old: name for name, old in former.items() if old in then and name not in then}


def expected(right, before, changed):
    roles, plans, features, meters = (
        names_now(before, changed, section) for section in ("roles", "plans", "features", "meters")
    )
    kept = {old: new for old, new in meters.items() if before.meters[old][0] == changed.meters[new][0]}
    return {
        "role": roles.get(right["role"]),
        "plan": plans[right["plan"]],
        "features": {features[name]: value for name, value in right["features"].items() if name in features},
        "limits": {kept[name]: value for name, value in right["limits"].items() if name in kept},
        "usage": {kept[name]: value for name, value in right["usage"].items() if name in kept},
    }


def as_seen(right, written, kept):
    """With None for a role that is not declared, and what is declared alone."""
    return {
        "role": right["role"] if right["role"] in written.roles else None,
        "plan": right["plan"],
        "features": {name: value for name, value in right["features"].items() if name in written.features},
        "limits": {name: value for name, value in right["limits"].items() if name in written.meters},
        "usage": {name: value for name, value in right["usage"].items() if name in kept},
    }


@pytest.mark.parametrize("seed", range(2))
def test_either_it_is_refused_or_everybody_has_the_rights_that_they_had(url, seed):
    random = Random(seed)  # noqa: S311 - changes of a catalog
    before, revision = Written(), "r0"
    counts = {"published": 0, "refused": 0}
    for step in range(1, 13):
        spend(url, random, before)
        changed = written_anew(random, before)
        accept = random.random() < 0.3
        with a_reader(url, before.catalog(), revision) as old:
            then = rights_of(old, PEOPLE)
            try:
                published(url, changed.catalog(), f"r{step}", accept_loss=accept)
            except ConfigError:
                assert rights_of(old, PEOPLE) == then
                counts["refused"] += 1
                continue
            counts["published"] += 1
            # As a sidecar of the revision before sees it.
            for right, found in zip(then, rights_of(old, PEOPLE), strict=True):
                assert as_seen(found, before, before.meters) == as_seen(right, before, before.meters), step
        with a_reader(url, changed.catalog(), f"r{step}") as new:
            now = rights_of(new, PEOPLE)
        for right, found in zip(then, now, strict=True):
            wanted = expected(as_seen(right, before, before.meters), before, changed)
            seen = as_seen(found, changed, wanted["usage"])
            if accept and wanted["role"] is None:
                seen["role"] = None if seen["role"] is None else "revived"
            assert seen == wanted, f"at step {step}"
            for meter, (used, reserved, _) in found["usage"].items():
                if meter not in wanted["usage"] and changed.meters[meter][0] != SEATS:
                    assert (used, reserved) == (0, 0), f"what is new of {meter} at step {step}"
        assert rows(url, "SELECT m.* FROM authz.workspaces AS w, authz.miscounts(w.id) AS m") == []
        before, revision = changed, f"r{step}"
    assert min(counts.values()) > 0


def spend(url, random, written):
    """Overrides and usage in the names that are published."""
    if written.features:
        override(url, f'{{"{random.choice(list(written.features))}": {random.choice(["true", "false"])}}}')
    meters = [meter for meter, (how, _) in written.meters.items() if how != SEATS]
    if meters:
        meter = random.choice(meters)
        override(url, limits=f'{{"{meter}": {random.randrange(9)}}}')
        use(url, **{meter.replace("-", "_"): random.randrange(2) for meter in random.sample(meters, 1)})
