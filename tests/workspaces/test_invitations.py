"""Asking somebody in: for one e-mail, once, for a week, while the inviter may and there is a seat."""

from __future__ import annotations

import json
import re
import unicodedata
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from sidecar.api.advice import ADVICE
from sidecar.text.emails import address_of

pytestmark = pytest.mark.postgres


@pytest.fixture
def shop(stage):
    return stage.workspace(owner="nora", members={"ada": "admin", "max": "member"})


def invite(stage, by, shop, email="eve@example.com", role="member"):
    return stage.post(by, f"/workspaces/{shop}/invite", {"email": email, "role": role})


def said(answer):
    return answer.status_code, answer.json and answer.json.get("code")


def listed(stage, by, shop):
    return [row["email"] for row in stage.get(by, f"/workspaces/{shop}/invitations").json["invitations"]]


def seats(stage, shop):
    return stage.get("nora", f"/workspaces/{shop}").json["quotas"]["members"]["used"]


def test_who_is_invited_comes_in_and_both_see_the_same(stage, shop):
    invited = invite(stage, "ada", shop, role="admin")
    assert invited.status_code == 201
    assert {"id", "email", "role", "invited_by", "created_at", "expires_at", "token"} == set(invited.json)

    joined = stage.accept("eve", invited.json["token"])

    assert joined.status_code == 200
    assert (joined.json["slug"], joined.json["role"]) == (shop, "admin")
    assert stage.roles(shop)["eve"] == "admin"
    assert (
        stage.get("eve", f"/workspaces/{shop}/members").json
        == stage.get("ada", f"/workspaces/{shop}/members").json
    )


def test_an_invitation_is_good_once(stage, shop):
    token = stage.invited("nora", shop, "eve@example.com")["token"]

    assert said(stage.accept("eve", token)) == (200, None)
    assert said(stage.accept("eve", token)) == (404, "invitation_invalid")
    stage.delete("nora", f"/workspaces/{shop}/members/eve")
    assert said(stage.accept("eve", token)) == (404, "invitation_invalid")


def test_it_holds_a_seat_while_it_is_open(stage, shop):
    assert seats(stage, shop) == 3
    stage.invited("nora", shop, "eve@example.com")
    assert seats(stage, shop) == 4
    invited = stage.invited("nora", shop, "EVE@example.com")  # replaces
    assert seats(stage, shop) == 4
    token = stage.invited("nora", shop, "ivy@example.com")["token"]
    assert seats(stage, shop) == 5
    stage.accept("ivy", token)
    assert seats(stage, shop) == 5

    stage.rows("UPDATE authz.workspace_invitations SET expires_at = now() WHERE email = 'EVE@example.com'")
    assert seats(stage, shop) == 4
    assert listed(stage, "ada", shop) == []
    assert said(stage.delete("ada", f"/workspaces/{shop}/invitations/{invited['id']}")) == (
        404,
        "unknown_invitation",
    )


def test_without_a_seat_nobody_is_invited_and_the_policy_says_what_would_help(stage):
    shop = stage.workspace("pro", owner="nora")

    denied = invite(stage, "nora", shop)

    assert said(denied) == (402, "quota_exceeded")
    assert [plan["plan"] for plan in denied.json["upgrade"]] == ["team"]
    assert denied.json["quota"]["members"]["used"] == 1
    assert said(stage.post("nora", f"/workspaces/{shop}/invite", {"nonsense": 1})) == (402, "quota_exceeded")

    stage.plan(shop, "team")
    assert invite(stage, "nora", shop).status_code == 201


def test_a_denial_is_as_the_document_shows_it(stage):
    text = (Path(__file__).parent.parent.parent / "docs/people.md").read_text()
    [written] = re.findall(r"/invite -d [^\n]*\n```\n```json\n(.*?)```", text, re.DOTALL)

    denied = invite(stage, "sam", "solo", "kim@example.com")

    assert denied.json == json.loads(written)
    assert list(denied.json) == list(json.loads(written))


def test_the_override_of_a_limit_goes_before_the_plans(stage):
    shop = stage.workspace("team", owner="nora")
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 2}})
    assert invite(stage, "nora", shop, "a@example.com").status_code == 201
    assert said(invite(stage, "nora", shop, "b@example.com")) == (403, "quota_exceeded")

    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": "unlimited"}})
    for number in range(12):
        assert invite(stage, "nora", shop, f"{number}@example.com").status_code == 201


def test_an_invitation_for_the_same_email_replaces_the_first_also_on_the_last_seat(stage):
    shop = stage.workspace(owner="nora")
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 2}})
    first = stage.invited("nora", shop, "eve@example.com")

    second = stage.invited("nora", shop, "Eve@EXAMPLE.com", "admin")

    assert listed(stage, "nora", shop) == ["Eve@EXAMPLE.com"]
    assert said(stage.accept("eve", first["token"])) == (404, "invitation_invalid")
    assert said(stage.accept("eve", second["token"])) == (200, None)
    assert stage.roles(shop)["eve"] == "admin"


@pytest.mark.parametrize(
    ("invited", "shown"),
    [
        ("eve@example.com", "EVE@Example.COM"),
        ("EVE@EXAMPLE.COM", "eve@example.com"),
        ("josé@example.com", unicodedata.normalize("NFD", "José@EXAMPLE.com")),
        (unicodedata.normalize("NFD", "JOSÉ@example.com"), "josé@example.com"),  # its capitals are ASCII
    ],
)
def test_two_spellings_of_one_address_are_one(stage, shop, invited, shown):
    token = stage.invited("nora", shop, invited)["token"]

    assert said(stage.accept(f"u-{uuid4().hex}", token, email=shown)) == (200, None)


# Each pair is one address by folding, or by a form that is less strict than NFC.
TWO_PEOPLE = [
    ("strasse@example.com", "straße@example.com"),
    ("kim@example.com", "\u212aim@example.com"),
    ("josé@example.com", "JOSÉ@example.com"),
    ("ida@example.com", "\u0130da@example.com"),
    ("fin@example.com", "\ufb01n@example.com"),
    ("eve@example.com", "\uff45ve@example.com"),
]


@pytest.mark.parametrize(("one", "other"), [*TWO_PEOPLE, *((b, a) for a, b in TWO_PEOPLE)])
def test_who_is_only_folded_alike_is_somebody_else(stage, shop, one, other):
    token = stage.invited("nora", shop, one)["token"]
    assert stage.invited("nora", shop, other)["email"] == other  # replaces nothing
    assert sorted(listed(stage, "nora", shop)) == sorted([one, other])

    assert said(stage.accept(f"u-{uuid4().hex}", token, email=other)) == (404, "invitation_invalid")
    assert said(stage.accept(f"u-{uuid4().hex}", token, email=one)) == (200, None)
    assert invite(stage, "nora", shop, one).status_code == 409
    assert invite(stage, "nora", shop, other).status_code == 201


def test_an_address_is_shown_as_typed_and_pages_go_on_behind_it(stage, shop):
    typed = ["Ann@Example.com", "bob@example.com", "CID@example.com", "Straße@example.com"]
    for email in typed:
        assert stage.invited("nora", shop, email)["email"] == email

    found, after = [], ""
    for _ in typed:
        page = stage.get("nora", f"/workspaces/{shop}/invitations?limit=1{after}").json
        found += [row["email"] for row in page["invitations"]]
        after = f"&after={quote(page.get('next', ''))}"

    assert found == typed


def test_python_and_sql_have_one_key_for_an_address(stage):
    letters = [chr(code) for code in range(1, 0x3000) if not 0xD800 <= code < 0xE000]
    emails = ["".join(letters[at : at + 40]) + "@example.com" for at in range(0, len(letters), 40)]
    emails += [two for pair in TWO_PEOPLE for two in pair]

    keys = stage.rows("SELECT authz.email_key(e) FROM unnest(%s::text[]) WITH ORDINALITY AS t (e, n)", emails)

    assert [key for (key,) in keys] == [address_of(email) for email in emails]


def test_who_is_a_member_is_not_invited_and_takes_no_seat_however_full_it_is(stage, shop):
    stage.get("max", "/workspaces", email="Max@example.com")
    before = seats(stage, shop)

    for by in ("nora", "ada"):
        assert said(invite(stage, by, shop, "mAx@example.com")) == (409, "already_a_member")
    assert said(invite(stage, "nora", shop, "nora@EXAMPLE.com")) == (409, "already_a_member")

    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": before}})
    assert said(invite(stage, "ada", shop, "max@example.com")) == (409, "already_a_member")
    assert said(invite(stage, "ada", shop, "new@example.com")) == (403, "quota_exceeded")
    assert said(invite(stage, "max", shop, "max@example.com")) == (403, "role_insufficient")


def test_an_invitation_that_a_member_accepts_changes_no_role_and_is_used_up_although_it_is_full(stage, shop):
    token = stage.invited("nora", shop, "amy@example.com", "admin")["token"]
    stage.rows(
        """INSERT INTO authz.workspace_memberships (workspace_id, user_id, role)
        SELECT id, 'amy', 'member' FROM authz.workspaces WHERE slug = %s""",
        shop,
    )
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 1}})
    newest = stage.newest()

    assert said(stage.accept("amy", token)) == (409, "already_a_member")

    assert stage.roles(shop)["amy"] == "member"
    assert listed(stage, "nora", shop) == []
    assert [(actor, kind) for actor, _, kind, _ in stage.outbox(shop, newest)] == [
        ("amy", "invitation.voided")
    ]
    assert said(stage.accept("amy", token)) == (404, "invitation_invalid")
    assert said(stage.accept("amy", "no-such-token")) == (404, "invitation_invalid")


def test_every_other_failure_is_the_same_404(stage, shop):
    def token(email="eve@example.com", by="nora", role="member"):
        return stage.invited(by, shop, email, role)["token"]

    used = token()
    stage.accept("eve", used)
    replaced = token("rob@example.com")
    revoked_row = stage.invited("nora", shop, "rob@example.com")
    stage.delete("nora", f"/workspaces/{shop}/invitations/{revoked_row['id']}")
    expired = token("late@example.com")
    stage.rows("UPDATE authz.workspace_invitations SET expires_at = now() WHERE email = 'late@example.com'")
    others = token("ivy@example.com")
    by_ada = token("leo@example.com", by="ada")
    stage.delete("nora", f"/workspaces/{shop}/members/ada")
    suspended = stage.workspace(owner="nora")
    in_suspended = stage.invited("nora", suspended, "sue@example.com")["token"]
    stage.admin(f"/v1/workspaces/{suspended}/status", {"status": "suspended"})

    undeclared = token("jan@example.com")
    stage.rows("UPDATE authz.workspace_invitations SET role = 'janitor' WHERE email = 'jan@example.com'")

    failures = [
        stage.accept("jan", undeclared),
        stage.accept("eve", used),
        stage.accept("rob", replaced),
        stage.accept("rob", revoked_row["token"]),
        stage.accept("late", expired),
        stage.accept("eve", others),
        stage.accept("ivy", others, email="ivy@example.com.evil.example"),
        stage.accept("ivy", others, email_verified=False),
        stage.accept("ivy", others, email_verified=None),
        stage.accept("leo", by_ada),
        stage.accept("sue", in_suspended),
        stage.accept("eve", "no-such-token"),
        stage.accept("eve", "☃"),
        stage.accept("eve", sha256(others.encode()).hexdigest()),
    ]

    assert {failure.status_code for failure in failures} == {404}
    [body] = {failure.data for failure in failures}
    assert b"invitation_invalid" in body
    assert json.loads(body)["detail"] == ADVICE["invitation_invalid"]
    assert said(stage.accept("ivy", others)) == (200, None)  # untouched by all this


@pytest.mark.parametrize("body", [{}, {"token": ""}, {"token": 1}, {"tokn": "x"}, {"token": "x" * 300}])
def test_a_token_is_text(stage, body):
    assert said(stage.post("eve", "/invitations/accept", body)) == (400, "invalid_request")


def test_an_inviter_who_was_demoted_has_invited_nobody_for_good(stage, shop):
    as_member = stage.invited("ada", shop, "eve@example.com")["token"]
    stage.patch("nora", f"/workspaces/{shop}/members/ada", {"role": "member"})
    assert seats(stage, shop) == 3
    stage.patch("nora", f"/workspaces/{shop}/members/ada", {"role": "admin"})

    assert said(stage.accept("eve", as_member)) == (404, "invitation_invalid")
    assert listed(stage, "ada", shop) == []


def test_an_inviter_who_left_and_came_back_has_invited_nobody(stage, shop):
    token = stage.invited("ada", shop, "eve@example.com")["token"]
    stage.post("ada", f"/workspaces/{shop}/leave")
    stage.accept("ada", stage.invited("nora", shop, "ada@example.com", "admin")["token"])

    assert said(stage.accept("eve", token)) == (404, "invitation_invalid")


def test_the_invitations_of_an_owner_who_becomes_admin_stay_good(stage, shop):
    token = stage.invited("nora", shop, "eve@example.com", "admin")["token"]
    stage.post("nora", f"/workspaces/{shop}/transfer", {"user": "ada"})

    assert said(stage.accept("eve", token)) == (200, None)


def test_an_inviter_with_less_than_they_gave_is_void_in_sql_too(stage, shop):
    given = stage.invited("ada", shop, "eve@example.com", "admin")["token"]
    stage.rows(
        """UPDATE authz.workspace_memberships AS m SET role = 'member' FROM authz.workspaces AS w
        WHERE w.id = m.workspace_id AND w.slug = %s AND m.user_id = 'ada'""",
        shop,
    )

    assert said(stage.accept("eve", given)) == (404, "invitation_invalid")


def test_nobody_is_invited_as_owner_nor_above_the_inviters_role(stage, shop):
    for by in ("nora", "ada"):
        assert said(invite(stage, by, shop, role="owner")) == (400, "invalid_request")
    assert said(invite(stage, "ada", shop, role="admin")) == (201, None)
    assert said(invite(stage, "max", shop)) == (403, "role_insufficient")
    assert said(invite(stage, "max", shop, role="owner")) == (403, "role_insufficient")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"email": "eve@example.com"},
        {"email": "eve", "role": "member"},
        {"email": "eve@exam ple", "role": "member"},
        {"email": "e@" + "x" * 320, "role": "member"},
        {"email": ["eve@example.com"], "role": "member"},
        {"email": "a@b\0", "role": "member"},
        {"email": "eve@example.com", "role": "janitor"},
        {"email": "eve@example.com", "role": "member", "expires_at": None},
    ],
)
def test_an_invitation_is_an_email_and_a_role(stage, shop, body):
    answer = stage.post("nora", f"/workspaces/{shop}/invite", body)

    assert said(answer) == (400, "invalid_request")


def test_listing_and_revoking_needs_the_admin_role_and_no_free_seat(stage, shop):
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 4}})
    id_ = stage.invited("nora", shop, "eve@example.com")["id"]
    path = f"/workspaces/{shop}/invitations"

    assert said(invite(stage, "ada", shop, "ivy@example.com")) == (403, "quota_exceeded")
    assert said(stage.get("max", path)) == (403, "role_insufficient")
    assert said(stage.delete("max", f"{path}/{id_}")) == (403, "role_insufficient")
    assert listed(stage, "ada", shop) == ["eve@example.com"]
    for unknown in (str(uuid4()), "nonsense", "x" * 36):
        assert said(stage.delete("ada", f"{path}/{unknown}")) == (404, "unknown_invitation")
    elsewhere = stage.workspace(owner="ada")
    assert said(stage.delete("ada", f"/workspaces/{elsewhere}/invitations/{id_}")) == (
        404,
        "unknown_invitation",
    )
    assert said(stage.delete("ada", f"{path}/{id_}")) == (204, None)
    assert listed(stage, "ada", shop) == []


def test_invitations_are_listed_in_pages(stage, shop):
    for name in "cab":
        stage.invited("nora", shop, f"{name}@example.com")
    first = stage.get("nora", f"/workspaces/{shop}/invitations?limit=2").json
    second = stage.get("nora", f"/workspaces/{shop}/invitations?limit=2&after={first['next']}").json

    assert [row["email"][0] for row in first["invitations"] + second["invitations"]] == ["a", "b", "c"]
    assert "next" not in second


def test_a_downgrade_after_the_invitation_leaves_no_seat(stage):
    shop = stage.workspace(owner="nora")
    token = stage.invited("nora", shop, "eve@example.com")["token"]
    stage.plan(shop, "starter")

    full = stage.accept("eve", token)

    assert said(full) == (402, "quota_exceeded")
    assert [plan["plan"] for plan in full.json["upgrade"]] == ["team"]
    assert full.json["quota"]["members"] == {
        "limit": 1,
        "used": 1,
        "reserved": 0,
        "remaining": 0,
        "resets_at": None,
    }
    stage.plan(shop, "team")
    assert said(stage.accept("eve", token)) == (200, None)


def test_at_acceptance_the_members_count_and_one_more_whoever_else_is_invited(stage):
    shop = stage.workspace(owner="nora")
    tokens = {name: stage.invited("nora", shop, f"{name}@example.com")["token"] for name in ("eve", "ivy")}
    stage.admin(f"/v1/workspaces/{shop}/overrides", {"limits": {"members": 2}})

    assert said(stage.accept("eve", tokens["eve"])) == (200, None)
    assert said(stage.accept("ivy", tokens["ivy"])) == (403, "quota_exceeded")


def test_the_token_is_shown_once_and_is_nowhere(stage, shop):
    stage.lines.clear()
    token = stage.invited("nora", shop, "eve@example.com")["token"]
    stage.accept("ivy", token)
    shown = stage.get("nora", f"/workspaces/{shop}/invitations").text
    kept = stage.rows("SELECT i::text FROM authz.workspace_invitations AS i")
    told = stage.rows("SELECT o::text FROM authz.outbox AS o")

    everything = f"{shown}{kept}{told}{stage.lines}"

    assert len(token) > 40
    assert token not in everything
    assert token.removeprefix("inv_") not in everything
    assert sha256(token.encode()).hexdigest() not in f"{shown}{told}{stage.lines}"
    assert sha256(token.encode()).hexdigest() in str(kept)
