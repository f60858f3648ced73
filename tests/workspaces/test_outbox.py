"""Who changed what: one row for each change, in the transaction that changes it."""

from __future__ import annotations

import psycopg
import pytest

from tests.postgres_server import rows, run

pytestmark = pytest.mark.postgres


@pytest.fixture
def shop(stage):
    return stage.workspace(owner="nora", members={"ada": "admin", "max": "member"})


@pytest.fixture
def told(stage, shop):
    """What the outbox says of the shop since the test began."""
    began = stage.newest()
    return lambda: stage.outbox(shop, began)


def test_what_people_do_is_theirs(stage, shop, told):
    stage.patch("nora", f"/workspaces/{shop}", {"name": "New"})
    stage.patch("nora", f"/workspaces/{shop}/members/max", {"role": "admin"})
    stage.delete("ada", f"/workspaces/{shop}/members/max")
    stage.post("ada", f"/workspaces/{shop}/leave")

    assert told() == [
        ("nora", "user", "workspace.renamed", {"from": shop, "to": "New"}),
        ("nora", "user", "member.role_changed", {"user": "max", "from": "member", "to": "admin"}),
        ("ada", "user", "member.removed", {"user": "max", "role": "admin"}),
        ("ada", "user", "member.left", {"user": "ada", "role": "admin"}),
    ]


def test_invitations_are_told_but_for_their_tokens(stage, shop, told):
    first = stage.invited("ada", shop, "eve@example.com")
    second = stage.invited("nora", shop, "eve@example.com", "admin")
    stage.accept("eve", second["token"])
    third = stage.invited("ada", shop, "ivy@example.com")
    stage.delete("nora", f"/workspaces/{shop}/invitations/{third['id']}")
    fourth = stage.invited("ada", shop, "leo@example.com")
    stage.patch("nora", f"/workspaces/{shop}/members/ada", {"role": "member"})

    assert [(actor, kind, data.get("id")) for actor, _, kind, data in told()] == [
        ("ada", "invitation.created", first["id"]),
        ("nora", "invitation.replaced", first["id"]),
        ("nora", "invitation.created", second["id"]),
        ("eve", "member.joined", None),
        ("eve", "invitation.accepted", second["id"]),
        ("ada", "invitation.created", third["id"]),
        ("nora", "invitation.revoked", third["id"]),
        ("ada", "invitation.created", fourth["id"]),
        ("nora", "member.role_changed", None),
        ("nora", "invitation.voided", fourth["id"]),
    ]


def test_a_transfer_and_a_deletion_are_told(stage, shop, told):
    stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "max"})
    stage.delete("max", f"/workspaces/{shop}")

    *moved, deleted = told()
    assert [(actor, kind, data) for actor, _, kind, data in moved] == [
        ("nora", "member.role_changed", {"user": "nora", "from": "owner", "to": "admin"}),
        ("nora", "member.role_changed", {"user": "max", "from": "member", "to": "owner"}),
    ]
    actor, _, kind, data = deleted
    assert (actor, kind, data["slug"]) == ("max", "workspace.deleted", shop)
    assert {member["user_id"]: member["role"] for member in data["members"]} == {
        "ada": "admin",
        "max": "owner",
        "nora": "admin",
    }


def test_a_new_workspace_is_told_with_its_owner(stage):
    [own] = stage.get("una", "/workspaces").json["workspaces"]
    made = stage.post("una", "/workspaces", {"name": "Shop of Una"}).json

    for slug, name in ((own["slug"], "una"), (made["slug"], "Shop of Una")):
        created, joined = stage.outbox(slug)
        assert created[3].pop("subscribed_at")
        whole = {"slug": slug, "name": name, "plan": "starter", "status": "active", "reason": None}
        assert created == ("una", "user", "workspace.created", whole)
        assert joined == ("una", "user", "member.joined", {"user": "una", "role": "owner"})


def test_what_an_administrator_changes_is_their_tokens(stage, shop, told):
    stage.plan(shop, "pro")
    stage.admin(f"/v1/workspaces/{shop}/status", {"status": "suspended", "reason": "unpaid"})
    stage.admin(
        f"/v1/workspaces/{shop}/overrides",
        {"features": {"analytics": False}, "limits": {"minutes": "unlimited"}, "reason": "pilot"},
    )
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"features": {"analytics": None}})

    rows = [(kind, data) for _, _, kind, data in told()]
    assert {(actor, of) for actor, of, _, _ in told()} == {("ops", "caller")}
    assert rows[0][1].pop("as_of")
    assert rows == [
        ("workspace.plan_changed", {"from": "team", "to": "pro"}),
        ("workspace.status_changed", {"from": "active", "to": "suspended", "reason": "unpaid"}),
        (
            "override.set",
            {"of": "feature", "name": "analytics", "value": False, "expires_at": None, "reason": "pilot"},
        ),
        (
            "override.set",
            {"of": "limit", "name": "minutes", "value": "unlimited", "expires_at": None, "reason": "pilot"},
        ),
        ("override.removed", {"of": "feature", "name": "analytics"}),
    ]


def test_what_changes_nothing_is_not_told(stage, shop, told):
    stage.plan(shop, "team")
    stage.admin(f"/v1/workspaces/{shop}/plan", {"plan": "pro", "as_of": "2001-01-01T00:00:00Z"})
    stage.admin(f"/v1/workspaces/{shop}/status", {"status": "active"})
    stage.patch("nora", f"/workspaces/{shop}/members/max", {"role": "member"})
    stage.patch("max", f"/workspaces/{shop}", {"name": "Mine"})
    stage.get("nora", f"/workspaces/{shop}")

    assert told() == []


def test_what_is_done_in_sql_is_the_logins(stage, shop, told):
    run(stage.url, "DELETE FROM authz.workspace_memberships WHERE user_id = 'max'")

    assert told() == [("postgres", "sql", "member.removed", {"user": "max", "role": "member"})]


def test_who_acts_is_forgotten_with_the_transaction(stage):
    with psycopg.connect(stage.url, autocommit=True) as connection:
        connection.execute("SELECT authz.acting_as('nora', 'user')")
        [who] = connection.execute("SELECT authz.actor(), authz.actor_kind()").fetchall()

    assert who == ("postgres", "sql")


def test_what_was_rolled_back_was_not_told(stage, shop, told):
    with psycopg.connect(stage.url) as connection:
        connection.execute("DELETE FROM authz.workspace_memberships WHERE user_id = 'max'")
        connection.rollback()

    assert told() == []


def test_who_reads_on_misses_nothing_that_is_committed_later(stage, shop):
    """The earlier number may come later: what is still open holds back what came after it."""
    unread = """SELECT id FROM authz.outbox
        WHERE (epoch, transaction, id) > (1, %s::xid8, %s)
          AND (epoch < authz.current_epoch() OR transaction < pg_snapshot_xmin(pg_current_snapshot()))
        ORDER BY epoch, transaction, id"""
    [(transaction, last)] = stage.rows(
        "SELECT transaction::text, id FROM authz.outbox AS o ORDER BY o.transaction DESC, id DESC LIMIT 1"
    )
    with psycopg.connect(stage.url) as slow:
        slow.execute("DELETE FROM authz.workspace_memberships WHERE user_id = 'max'")
        run(stage.url, "INSERT INTO authz.users (id, email) VALUES ('fast', 'fast@example.com')")
        assert stage.rows(unread, transaction, last) == []

    assert len(stage.rows(unread, transaction, last)) >= 3


def test_each_change_of_a_user_names_the_decision_that_allowed_it(stage, shop):
    began = stage.newest()
    stage.patch("nora", f"/workspaces/{shop}", {"name": "New"})
    stage.patch("nora", f"/workspaces/{shop}/members/max", {"role": "admin"})
    invited = stage.invited("max", shop, "eve@example.com")
    stage.delete("nora", f"/workspaces/{shop}/invitations/{invited['id']}")
    stage.accept("ivy", stage.invited("ada", shop, "ivy@example.com")["token"])
    stage.delete("ada", f"/workspaces/{shop}/members/max")
    stage.post("ada", f"/workspaces/{shop}/leave")
    stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "ivy"})
    stage.delete("ivy", f"/workspaces/{shop}")

    told = rows(
        stage.url,
        """SELECT o.kind, o.decision_id
        FROM authz.outbox AS o JOIN authz.workspaces AS w ON w.id = o.workspace_id
        WHERE w.slug = %s AND o.id > %s ORDER BY o.id""",
        shop,
        began,
    )
    granted = {line["decision_id"]: line["action"] for line in stage.lines if line.get("allow")}
    assert [(kind, granted[decision]) for kind, decision in told] == [
        ("workspace.renamed", "workspace.update"),
        ("member.role_changed", "members.change_role"),
        ("invitation.created", "members.invite"),
        ("invitation.revoked", "role:admin"),
        ("invitation.created", "members.invite"),
        ("member.joined", "members.invite"),
        ("invitation.accepted", "members.invite"),
        ("member.removed", "members.remove"),
        ("member.left", "platform.use"),
        ("member.role_changed", "role:owner"),
        ("member.role_changed", "role:owner"),
        ("workspace.deleted", "workspace.delete"),
    ]
    [joined] = rows(
        stage.url,
        "SELECT data FROM authz.outbox WHERE id > %s AND kind = 'member.joined' AND data ->> 'user' = 'ivy'"
        " AND data ? 'granted_by'",
        began,
    )
    assert joined[0]["granted_by"] == "ada"


def test_a_change_that_no_decision_precedes_has_an_id_of_its_own(stage):
    who = f"una-{stage.newest()}"
    stage.get(who, "/workspaces")
    stage.post(who, "/workspaces", {"name": "Shop"})

    (first,), (second,) = rows(
        stage.url,
        """SELECT array_agg(DISTINCT decision_id) FROM authz.outbox WHERE actor = %s
        GROUP BY workspace_id""",
        who,
    )
    assert len({*first, *second} - {None}) == len(first) + len(second) == 2
