"""What is Flask's own; what all frameworks have in common is in cases.yaml."""

from __future__ import annotations

import logging
from functools import wraps

import pytest
from flask import Blueprint, Flask, g, jsonify, request
from flask.views import MethodView

from sidecar.guard import (
    Denied,
    Guard,
    init_app,
    require,
    require_feature,
    require_role,
    require_workspace,
    reserve,
)
from sidecar.guard.testing import FakeSidecar

WORKSPACE_ID = "3f2b8a52-1111-4222-8333-444455556666"


@pytest.fixture
def sidecar():
    sidecar = FakeSidecar(role="admin", plan="pro", strangers={"zoe"})
    sidecar.allow("role:member", "role:admin", "feature:video_avatar", "analytics.view")
    sidecar.allow("recording.start", limits={"minutes": 100})
    sidecar.deny("role:owner", reason="role_insufficient", message="Not you.", needs_roles=["owner"])
    return sidecar


@pytest.fixture
def app(sidecar):
    app = Flask(__name__)
    app.testing = True
    init_app(app, client=sidecar, user=lambda: request.headers.get("X-User"))
    return app


def ask(app, path="/acme", *, user="mia", method="POST", **more):
    headers = {"X-User": user} if user is not None else {}
    return app.test_client().open(path, method=method, headers=headers | more.pop("headers", {}), **more)


def serving(app, *decorators, rule="/<workspace>", view=lambda **_: "done"):
    """*view* at *rule*, under *decorators* as they would stand above it."""

    def seen(**parts):
        return view(**parts)

    for decorator in reversed(decorators):
        seen = decorator(seen)
    app.add_url_rule(rule, view_func=seen, methods=["GET", "POST"])


def actions(sidecar):
    return [asked.action for asked in sidecar.asked]


def test_who_may_gets_the_view(app, sidecar):
    serving(app, require("analytics.view"))

    response = ask(app)

    assert (response.status_code, response.text) == (200, "done")
    assert [(each.user, each.workspace, each.action, each.mode) for each in sidecar.asked] == [
        ("mia", "acme", "analytics.view", "check")
    ]


def test_an_outage_is_503_and_tells_the_log_alone(app, sidecar, caplog):
    serving(app, require("analytics.view"))

    with sidecar.outage("facts_unavailable"), caplog.at_level(logging.WARNING, "sidecar.guard"):
        response = ask(app)

    assert response.status_code == 503
    assert response.json["code"] == "authorization_unavailable"
    assert response.headers["Retry-After"] == "1"
    assert "facts" not in response.text
    assert "facts_unavailable" in caplog.text


def test_a_mistake_of_the_backends_is_500_and_tells_the_log_alone(app, caplog):
    serving(app, require("analytics.view", minutes=3))  # it takes none

    with caplog.at_level(logging.ERROR, "sidecar.guard"):
        response = ask(app)

    assert response.status_code == 500
    assert response.json["code"] == "authorization_misconfigured"
    assert "minutes" not in response.text
    assert "meter_not_taken" in caplog.text


def reserving(**_):
    with reserve("recording.strat", minutes=5):
        return "done"


def asking(**_):
    g.workspace._client.authorize("recording.strat", user="mia", workspace="acme")  # noqa: SLF001 - the app's


@pytest.mark.parametrize(
    ("decorators", "view"),
    [
        ([require("recording.strat")], None),
        ([require("recording.strat", mode="consume")], None),
        ([require_role("admin", "onwer")], None),
        ([], reserving),
        ([require_workspace], asking),
    ],
    ids=["check", "consume", "one of two roles", "reserve", "a call of the view's"],
)
def test_a_name_that_nobody_declares_is_the_developers_mistake(app, caplog, decorators, view):
    """Also where the application words its denials itself."""
    if view is not asking:
        app.register_error_handler(Denied, lambda denied: ("no", denied.status))
    serving(app, *decorators, **({} if view is None else {"view": view}))

    with caplog.at_level(logging.ERROR, "sidecar.guard"):
        response = ask(app)

    assert (response.status_code, response.json["code"]) == (500, "authorization_misconfigured")
    [record] = caplog.records
    assert 'the view "seen" asks for what plans.yaml does not declare' in record.getMessage()
    assert response.json["detail"] == "tell the operator: the log of this backend has the cause"


def test_a_stranger_is_told_the_same_everywhere(app):
    serving(app, require("analytics.view"))

    here, there = (ask(app, path, user="zoe").json for path in ("/acme", "/nowhere"))

    assert here.pop("decision_id") != there.pop("decision_id")
    assert here == there
    assert here["code"] == "not_a_member"


def test_the_workspace_is_on_g(app, sidecar):
    serving(
        app,
        require_workspace,
        view=lambda **_: jsonify(
            id=g.workspace.id,
            slug=g.workspace.slug,
            name=g.workspace.name,
            role=g.workspace.role,
            plan=g.workspace.plan,
            user=g.workspace.user,
        ),
    )

    response = ask(app)

    assert response.json["slug"] == "acme"
    assert response.json["name"] == "Acme"
    assert len(response.json["id"]) == 36
    assert (response.json["role"], response.json["plan"], response.json["user"]) == ("admin", "pro", "mia")
    assert actions(sidecar) == ["role:member"]


def test_an_id_that_was_asked_by_is_known_without_a_question(app, sidecar, monkeypatch):
    monkeypatch.setattr(sidecar, "entitlements", None)
    serving(app, require_workspace, view=lambda **_: g.workspace.id)

    assert ask(app, f"/{WORKSPACE_ID.upper()}").text == WORKSPACE_ID


def test_a_slug_as_long_as_an_id_is_a_slug(app):
    serving(app, require_workspace, view=lambda **_: g.workspace.id)

    assert ask(app, "/" + "x" * 36).text != "x" * 36


def test_who_is_removed_while_they_are_served_learns_no_more(app, sidecar):
    def view(**_):
        sidecar.strangers.add("mia")
        return g.workspace.name

    serving(app, require_workspace, view=view)

    response = ask(app)

    assert (response.status_code, response.json["code"]) == (403, "not_a_member")


@pytest.mark.parametrize("decorator", [require_workspace, require_workspace()], ids=["bare", "called"])
def test_require_workspace_stands_with_and_without_parentheses(app, decorator):
    serving(app, decorator)

    assert ask(app).status_code == 200
    assert ask(app, user="zoe").status_code == 403


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (require_role, "require_role needs the roles"),
        (lambda _: require_role(), "require_role needs the roles"),
        (require_feature, "require_feature needs the feature"),
        (require, "is text"),
    ],
    ids=["role", "no role", "feature", "action"],
)
def test_what_needs_a_word_says_so_when_it_has_none(make, says):
    with pytest.raises(TypeError, match=says):
        make(lambda: "view")


def test_one_of_several_roles_is_enough(app, sidecar):
    serving(app, require_role("owner", "admin"))

    assert ask(app).status_code == 200
    assert actions(sidecar) == ["role:owner", "role:admin"]


def test_guards_on_top_of_each_other_are_one_call(app, sidecar, monkeypatch):
    monkeypatch.setattr(sidecar, "check", None)
    serving(
        app,
        require_workspace,
        require_role("admin"),
        require_feature("video_avatar"),
        require("analytics.view"),
    )

    assert ask(app).status_code == 200
    assert actions(sidecar) == ["role:admin", "feature:video_avatar", "analytics.view"]


def sign_in(view):
    """A decorator of somebody else's."""

    @wraps(view)
    def signed_in(**parts):
        if request.headers.get("X-User") == "banned":
            return "banned", 418
        return view(**parts)

    return signed_in


def test_a_decorator_between_two_guards_is_not_skipped(app, sidecar):
    serving(app, require_role("admin"), sign_in, require("analytics.view"))

    assert ask(app).status_code == 200
    assert ask(app, user="banned").status_code == 418
    assert actions(sidecar) == ["role:admin", "analytics.view", "role:admin"]


def test_a_view_takes_once():
    with pytest.raises(ValueError, match="consumes once"):
        require("recording.start", mode="consume")(require("scenarios.create", mode="consume")(lambda: ""))


def test_what_takes_may_not_stand_above_a_guard_that_it_cannot_wait_for():
    inner = sign_in(require_role("owner")(lambda: ""))

    with pytest.raises(ValueError, match="what it takes would be lost"):
        require("recording.start", mode="consume")(inner)


def test_consume_takes_before_the_view_and_says_what_is_left(app, sidecar):
    def view(**_):
        decision = g.workspace.decisions["recording.start"]
        return jsonify(used=decision.quota["minutes"].used, key=decision.idempotency_key)

    serving(app, require("recording.start", mode="consume", minutes=5), view=view)

    response = ask(app)

    assert response.json["used"] == 5
    assert response.json["key"] == sidecar.asked[0].idempotency_key


@pytest.mark.parametrize("minutes", [0, True, "5", 1.5])
def test_a_constant_amount_that_is_none_is_refused_when_the_view_is_made(minutes):
    with pytest.raises(ValueError, match="minutes is a whole number"):
        require("recording.start", minutes=minutes)


def test_amounts_are_given_in_one_way():
    with pytest.raises(ValueError, match="not both"):
        require("recording.start", amounts={"minutes": 1}, minutes=1)


@pytest.mark.parametrize(
    ("option", "says"), [({"mode": "reserve"}, "with guard.reserve"), ({"replays": "allow"}, "refuse or run")]
)
def test_an_option_that_there_is_not_is_refused(option, says):
    with pytest.raises(ValueError, match=says):
        require("recording.start", **option)


KEY = {"Idempotency-Key": "k-1"}


def test_a_view_that_repeats_nothing_may_be_let_run_again(app, sidecar):
    serving(
        app,
        require("recording.start", mode="consume", minutes=5, replays="run"),
        view=lambda **_: str(g.workspace.decisions["recording.start"].replayed),
    )

    assert [ask(app, headers=KEY).text for _ in range(2)] == ["False", "True"]
    assert sidecar.used("minutes", workspace="acme") == 5


def test_the_key_may_come_from_elsewhere(app, sidecar):
    serving(app, require("recording.start", mode="consume", idempotency_key=lambda: int(request.args["job"])))

    ask(app, "/acme?job=9", headers=KEY)

    assert sidecar.asked[0].idempotency_key == "9"


@pytest.mark.parametrize(
    ("path", "header", "asked"),
    [
        ("/by-name/acme", None, "acme"),
        ("/by-id/acme", None, "acme"),
        ("/by-name/acme", "acme", "acme"),
        ("/plain", "acme", "acme"),
        (f"/by-uuid/{WORKSPACE_ID}", None, WORKSPACE_ID),
    ],
)
def test_the_workspace_is_in_the_path_or_the_header(app, sidecar, path, header, asked):
    view = require("analytics.view")(lambda **_: "done")
    for rule in ("/by-name/<workspace>", "/by-id/<workspace_id>", "/by-uuid/<uuid:workspace_id>", "/plain"):
        app.add_url_rule(rule, rule, view)

    headers = {"X-Workspace-Id": header} if header else {}
    assert ask(app, path, method="GET", headers=headers).status_code == 200
    assert sidecar.asked[0].workspace == asked


@pytest.mark.parametrize(
    ("path", "header"),
    [
        ("/plain", None),
        ("/plain", ""),
        ("/acme", "other"),
        ("/acme", "ACME"),
        (f"/{WORKSPACE_ID}", "acme"),
        ("/" + "x" * 257, None),
        ("/a%00b", None),
    ],
)
def test_no_workspace_or_two_is_400_before_anything_is_asked(app, sidecar, path, header):
    view = require("analytics.view")(lambda **_: "done")
    app.add_url_rule("/<workspace>", "named", view)
    app.add_url_rule("/plain", "plain", view)

    response = ask(app, path, method="GET", headers={"X-Workspace-Id": header} if header is not None else {})

    assert (response.status_code, response.json["code"]) == (400, "invalid_request")
    assert sidecar.asked == []


def test_a_view_reserves_and_commits(app, sidecar):
    def view(**_):
        with reserve("recording.start", minutes=30, ttl_s=600) as hold:
            hold.commit(minutes=12)
        return "done"

    serving(app, view=view)

    assert ask(app).status_code == 200
    assert sidecar.used("minutes", workspace="acme") == 12
    assert sidecar.reserved("minutes", workspace="acme") == 0


def test_a_reservation_that_is_denied_is_the_end_users_answer(app, sidecar):
    def view(**_):
        with reserve("recording.start", minutes=101):
            return "done"

    serving(app, view=view)

    assert ask(app).status_code == 429
    assert ask(app, user=None).status_code == 401
    assert ask(app, user="zoe").json["code"] == "not_a_member"


def test_what_a_reservation_finds_wrong_is_400(app):
    def view(**_):
        with reserve("recording.start", minutes=0):
            return "done"

    serving(app, view=view)

    assert ask(app).status_code == 400


def test_limits_are_told_by_the_guards_that_are_asked_to(app):
    serving(app, require("recording.start", mode="consume", minutes=5, ratelimit=True))

    response = ask(app)

    assert response.headers["RateLimit-Policy"] == '"minutes";q=100'
    assert response.headers["RateLimit"] == '"minutes";r=95'


def test_an_application_without_a_guard_says_what_is_missing():
    app = Flask(__name__)
    app.testing = True
    serving(app, require("analytics.view"))

    with pytest.raises(RuntimeError, match=r"call sidecar\.guard\.init_app"):
        ask(app)


def test_outside_of_an_application_it_says_what_is_missing():
    with pytest.raises(RuntimeError, match=r"call sidecar\.guard\.init_app"):
        reserve("recording.start")


def test_an_application_has_one_guard(app, sidecar):
    with pytest.raises(RuntimeError, match="has a guard already"):
        init_app(app, client=sidecar, user=lambda: "mia")


def test_a_guard_of_ones_own_has_its_own_users_and_workspaces(app, sidecar):
    guard = Guard(
        client=sidecar, user=lambda: "root", workspace=lambda: "the-one", membership="analytics.view"
    )
    serving(app, guard.require_workspace, rule="/")

    assert ask(app, "/", user=None).status_code == 200
    assert [(each.user, each.workspace, each.action) for each in sidecar.asked] == [
        ("root", "the-one", "analytics.view")
    ]


def test_a_guard_of_ones_own_is_not_asked_together_with_another(app, sidecar):
    guard = Guard(client=sidecar, user=lambda: "root")
    serving(app, guard.require("analytics.view"), require("analytics.view"))

    assert ask(app).status_code == 200
    assert [each.user for each in sidecar.asked] == ["root", "mia"]


def test_a_guard_that_is_made_first_takes_the_application_later(sidecar):
    guard, app = Guard(client=sidecar, user=lambda: "mia"), Flask(__name__)
    guard.init_app(app)
    serving(app, guard.require_role("owner"))

    assert ask(app).status_code == 403


def test_a_user_that_is_no_text_is_a_mistake(app, sidecar):
    guard = Guard(client=sidecar, user=lambda: 42)  # type: ignore[arg-type, return-value] # the mistake
    serving(app, guard.require("analytics.view"))

    with pytest.raises(TypeError, match="got 42"):
        ask(app)


def test_an_application_may_word_its_denials_itself(app):
    app.register_error_handler(Denied, lambda denied: (f"no: {denied.reason}", denied.status))
    serving(app, require_role("owner"))

    assert (ask(app).status_code, ask(app).text) == (403, "no: role_insufficient")


def test_methods_of_a_class_are_guarded(app, sidecar):
    class Recordings(MethodView):
        decorators = [require_role("admin")]  # noqa: RUF012 - as Flask has it

        @require("recording.start", mode="consume")
        def post(self, workspace):
            return workspace

    app.add_url_rule("/<workspace>", view_func=Recordings.as_view("recordings"))

    assert ask(app).text == "acme"
    assert actions(sidecar) == ["role:admin", "recording.start"]


def test_views_of_a_blueprint_are_guarded(app):
    blueprint = Blueprint("team", __name__)
    blueprint.add_url_rule("/<workspace>", "view", require_role("owner")(lambda workspace: workspace))
    app.register_blueprint(blueprint)

    assert ask(app, method="GET").status_code == 403


def test_the_view_keeps_its_name_and_words():
    def recordings():
        """All of them."""

    assert require("analytics.view")(recordings).__name__ == "recordings"
    assert require("analytics.view")(recordings).__doc__ == "All of them."


def test_the_workspace_shows_itself_without_secrets(app):
    serving(app, require("analytics.view"), view=lambda **_: repr(g.workspace))

    assert ask(app).text == "<workspace acme of admin mia, plan pro>"
