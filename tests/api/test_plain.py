"""Plain questions are answered with the bytes, the line in the log and the count of any other."""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from time import monotonic
from types import SimpleNamespace
from typing import NamedTuple

import jwt
import pytest

from sidecar.api.authzen.domain import Authzen
from sidecar.api.authzen.workspaces import Workspaces
from sidecar.api.masking import Masks
from sidecar.api.plain import PlainChecks
from sidecar.catalog.catalog import Route, Source
from sidecar.catalog.routes import Routes
from sidecar.identity.callers import Callers
from sidecar.identity.users import FixedKeys, Identities, key_set_of_secret
from sidecar.quota.decider import Decider
from sidecar.serving.application import Application
from sidecar.store.rows import PlainRow
from sidecar.text.encoding import encoded
from tests.api.known import AUTHORIZER, CATALOG, FACTS, facts_of
from tests.api.stage import BACKEND, a_stage
from tests.values import some_facts

SECRET = "a-secret-of-this-test-of-32-characters"  # noqa: S105 - of this test alone
USER, AUDIENCE, ISSUER = "u%é", "app", "https://idp.example"
KINDS = ("authorize", "evaluation", "nginx", "ingress-nginx", "forward-auth", "haproxy", "ext-authz")
NOW = datetime.now(UTC)
_VARIES = re.compile(rb"\b[0-9a-f]{32}\b")


class Sent(NamedTuple):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def a_token(user=USER, **claims):
    claims = {
        "sub": user,
        "aud": AUDIENCE,
        "iss": ISSUER,
        "exp": int(time.time()) + 3_600,
        "team": "w",
    } | claims
    return "Bearer " + jwt.encode(claims, SECRET, "HS256")


TOKEN = a_token()


def sent(kind, action, **headers):
    path = f"/workspaces/w/{action}?a=b,c"
    match kind:
        case "authorize":
            asked = {"user": USER, "workspace": "w", "action": action}
        case "evaluation":
            asked = {
                "resource": {"id": "w", "type": "workspace"},
                "subject": {"type": "user", "id": USER},
                "action": {"name": action},
            }
        case "ext-authz":
            return Sent("GET", f"/gw/ext-authz{path}", {"Authorization": TOKEN, "Host": "x"} | headers)
        case "ingress-nginx":
            said = {"X-Original-Method": "GET", "X-Original-URL": f"https://x{path}"}
            return Sent("GET", "/gw/ingress-nginx", {"Authorization": TOKEN, "Host": "y"} | said | headers)
        case _:
            names = ("X-Forwarded-Method", "X-Forwarded-Uri", "X-Forwarded-Host")
            if kind != "forward-auth":
                names = ("X-Original-Method", "X-Original-URI", "Host")
            said = dict(zip(names, ("GET", path, "x"), strict=True))
            return Sent("GET", f"/gw/{kind}", {"Authorization": TOKEN} | said | headers)
    target = {"authorize": "/v1/authorize", "evaluation": "/access/v1/evaluation"}[kind]
    typed = {"Authorization": f"Bearer {BACKEND}", "Content-Type": "application/json"}
    return Sent("POST", target, typed | headers, encoded(asked))


def a_route(path, action, *, user=("claim", "sub"), workspace=("path", "workspace"), **more):
    values = {"method": "GET", "host": None, "mode": "check"} | more
    return Route(
        path=path,
        action=action,
        user=Source(kind=user[0], name=user[1]),
        workspace=Source(kind=workspace[0], name=workspace[1]),
        **values,
    )


ROUTES = Routes(
    [
        *(a_route(f"/workspaces/{{workspace}}/{action}", action) for action in CATALOG.actions),
        a_route("/by-claim", "platform.use", workspace=("claim", "team")),
        a_route("/by-header", "platform.use", user=("header", "X-User"), workspace=("header", "X-Workspace")),
        a_route("/consumes", "platform.use", workspace=("claim", "team"), mode="consume"),
        a_route("/once", "platform.use", workspace=("claim", "team"), once_per="X-Request-Key"),
        a_route(
            "/by-key", "platform.use", user=("header", "X-Request-Key"), workspace=("header", "X-Workspace")
        ),
        a_route("/hosted", "platform.use", workspace=("claim", "team"), host="x"),
    ]
)


class Asking:
    """The same requests to the endpoint and, where they are plain, past it."""

    def __init__(self, **more):
        stage = a_stage({}, **more)
        self.lines: list[bytes] = []
        self.keys = FixedKeys(key_set_of_secret(SECRET.encode()))
        self.identities = Identities(self.keys, audience=AUDIENCE, issuer=ISSUER)
        self.metrics = stage.metrics
        self.service = replace(
            stage.service,
            authorizer=AUTHORIZER,
            decider=Decider(AUTHORIZER, stage.service.spending),
            log=SimpleNamespace(note=self.lines.append, note_all=self.lines.extend, waits=False),
            authzen=more.get("authzen")
            or Authzen(domain=Workspaces(AUTHORIZER, metrics=stage.service.metrics)),
            routes=ROUTES,
            identities=self.identities,
            deadline_s=10.0,
        )
        self.application = Application(self.service)

    def verify(self, *tokens):
        for token in tokens or (TOKEN,):
            self.identities.user(token, deadline=monotonic() + 9)

    def request(self, asked, *, remote="127.0.0.1"):
        request = self.application.request(
            asked.method, asked.target, header=asked.header, repeated=(), by_socket=False, remote=remote
        )
        request.body = partial(bytes, asked.body)
        return request

    def by_endpoint(self, asked):
        """Status, header lines and body; as it goes on the wire, but for what every response says."""
        request = self.request(asked)
        status, headers, body = self.application.answer(request, self.application.endpoint_of(request))
        return status, "".join(f"{name}: {value}\r\n" for name, value in headers).encode("latin-1"), body

    def alike(self, asked):
        addressed = self.application.addressed(asked.target, header=asked.header, by_socket=False)
        endpoint = self.application.hot(asked.method, asked.target)
        assert endpoint is not None
        plain = self.application.plain
        if asked.target.startswith("/gw/"):
            return plain.alike_from_gateway(
                endpoint, method=asked.method, target=asked.target, by_socket=False
            )
        return plain.alike_in_bodies(
            endpoint,
            caller=addressed.caller,
            query=addressed.query,
            is_json=asked.header("Content-Type") == "application/json",
        )

    def question(self, alike, asked, *, remote="127.0.0.1"):
        request = partial(self.request, asked, remote=remote)
        return (
            None
            if alike is None
            else alike.asked(asked.body, header=asked.header, remote=remote, request=request)
        )

    def plainly(self, asked, facts, *, alike=None):
        alike = alike or self.alike(asked)
        question = self.question(alike, asked)
        if question is None:
            return None
        id_ = asked.header("X-Request-ID") or ""
        [reply] = self.application.plain.answers(
            [SimpleNamespace(alike=alike, asked=question, request_id=id_, began=monotonic())],
            [None if facts is None else row_of(facts)],
            NOW if facts is None else facts.at,
        )
        if reply is None:
            return None
        lines, body = reply
        standing = f"Content-Length: {len(body)}\r\nX-Request-ID: {id_}\r\nCache-Control: no-store\r\n"
        return 200, lines + standing.encode(), body

    def counted(self):
        """What has been counted since the last call."""
        counted = Counter(map(id, self.metrics._counted))  # noqa: SLF001 - as it publishes
        self.metrics._counted.clear()  # noqa: SLF001 - ditto
        return counted


def row_of(facts):
    return PlainRow(
        str(facts.workspace_id),
        facts.slug,
        facts.name,
        facts.role,
        facts.plan,
        facts.status,
        dict(facts.feature_overrides) or None,
        facts.version,
    )


def without_times(line: bytes) -> dict[str, object]:
    document = json.loads(line + b"}")
    assert list(document)[:6] == ["v", "kind", "at", "request_id", "caller", "endpoint"]
    assert set(document.pop("ms")) == {"facts", "policy", "ledger", "total"}
    return {name: each for name, each in document.items() if name not in {"at", "facts_at", "decision_id"}}


def masked(reply, *, of_stranger):
    text = _VARIES.sub(b"*", b"%d\n%b\n%b" % reply)
    return re.sub(rb'"at":"[^"]*"', b"", text) if of_stranger else text


@pytest.mark.parametrize("kind", KINDS)
def test_a_plain_question_is_answered_logged_and_counted_as_by_its_endpoint(kind):
    """Once its cell has been rendered; before that, and for whatever is not plain, it is not answered."""
    asking, chance = Asking(), random.Random(5)  # noqa: S311 - no secret
    answered = left = 0
    asking.verify()
    for role, plan, status, action in product(
        [*CATALOG.roles, "janitor"], [*CATALOG.plans, "gold"], ("active", "suspended"), CATALOG.actions
    ):
        member = replace(facts_of(chance, role, plan, status, action), version=17)
        facts = chance.choice((member,) * 9 + (None,))
        FACTS.members = {} if facts is None else {(USER, "w"): facts}
        asked = sent(kind, action, **{"X-Request-ID": "r-1"})
        asking.by_endpoint(asked)
        asking.lines.clear()
        asking.counted()
        expected, by_endpoint = asking.by_endpoint(asked), asking.counted()
        reply, plainly = asking.plainly(asked, facts), asking.counted()
        if reply is None:
            left += 1
            assert (len(asking.lines), plainly) == (1, {})
            continue
        answered += 1
        assert masked(reply, of_stranger=facts is None) == masked(expected, of_stranger=facts is None)
        hit = Counter([id(asking.metrics._memo["hit"])])  # noqa: SLF001 - the memo of AUTHORIZER counts none
        assert plainly == by_endpoint + hit
        theirs, ours = map(without_times, asking.lines)
        assert ours == theirs
    assert answered > (100 if kind in KINDS[:2] else 40)
    assert left > 20


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"",
        lambda _: b"{}",
        lambda _: b"[]",
        lambda body: body.replace(b'"action"', b'"actions"'),
        lambda body: body[:-1] + b',"context":{}}',
        lambda body: body[:-1] + b',"mode":"check"}',
        lambda body: body[:-1] + b"," + body[1:],
        lambda body: body.replace(USER.encode(), b""),
        lambda body: body.replace(USER.encode(), b"\\u0000"),
        lambda body: body.replace(USER.encode(), b"\\ud800"),
        lambda body: body.replace(b'"%b"' % USER.encode(), b"7"),
        lambda body: body.replace(USER.encode(), b"u" * 257),
        lambda body: body.replace(b"platform.use", b"nothing.declared"),
        lambda body: body.replace(b"platform.use", b"recording.start"),
        lambda body: body + b"x",
        lambda body: body + b"\xff",
    ],
)
def test_a_body_that_is_not_plain_is_left_to_the_endpoint(kind, change):
    asking = Asking()
    asked = sent(kind, "platform.use")
    assert asking.question(asking.alike(asked), asked) is not None
    changed = asked._replace(body=change(asked.body))
    assert asking.question(asking.alike(changed), changed) is None


@pytest.mark.parametrize(
    "change",
    [
        (b'"type":"user"', b'"type":"robot"'),
        (b'"type":"workspace"', b'"type":"user"'),
        (b'"type":"user",', b""),
        (b'"name":"platform.use"', b'"name":"platform.use","properties":{"amounts":{"minutes":1}}'),
        (b'"type":"user"', b'"type":"user","properties":{}'),
        (b'"type":"user"', b'"type":"user","type":"user"'),
    ],
)
def test_an_evaluation_about_anything_else_is_left_to_the_endpoint(change):
    asking = Asking()
    asked = sent("evaluation", "platform.use")
    assert change[0] in asked.body
    changed = asked._replace(body=asked.body.replace(*change))
    assert asking.question(asking.alike(changed), changed) is None


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize(
    "change",
    [
        {"target": "?a=b"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer ops-token"},
        {"Content-Type": "text/plain"},
    ],
)
def test_who_may_not_ask_so_is_left_to_the_endpoint(kind, change):
    asked = sent(kind, "platform.use", **{name: text for name, text in change.items() if name != "target"})
    assert Asking().alike(asked._replace(target=asked.target + change.get("target", ""))) is None


def test_evaluations_about_another_domain_are_left_to_it():
    asked = sent("evaluation", "platform.use")
    other = Authzen(domain=SimpleNamespace(searches=()))
    assert Asking(authzen=other).alike(asked) is None
    assert Asking(authzen=other).alike(sent("authorize", "platform.use")) is not None


def test_a_users_token_counts_only_while_it_is_remembered():
    asking = Asking()
    asked = sent("nginx", "platform.use")
    alike = asking.alike(asked)
    assert asking.question(alike, asked) is None
    asking.verify()
    assert asking.question(alike, asked) is not None
    asking.identities._known.clear()  # noqa: SLF001 - as time does
    assert asking.question(alike, asked) is None
    asking.verify()
    assert asking.question(alike, asked) is not None
    asking.keys._keys = key_set_of_secret(b"other" * 9)  # noqa: SLF001 - as RemoteKeys does
    assert asking.question(alike, asked) is None


def test_a_gateways_token_counts_no_longer_than_its_file_says():
    asking = Asking()
    asked = sent("nginx", "platform.use")
    asked.headers.update(
        {
            "X-Original-Method": "GET",
            "X-Original-URI": "/by-header",
            "X-Sidecar-Token": BACKEND,
            "X-User": "u",
            "X-Workspace": "w",
        }
    )
    alike = asking.alike(asked)
    assert asking.question(alike, asked) is not None
    asking.service.callers.replace(Callers({}))
    assert asking.question(alike, asked) is None


def test_lines_are_masked_with_the_key_that_counts_now():
    asking = Asking()
    masks = Masks(["user", "caller", "request"], key=b"k" * 32)
    asking.service = replace(asking.service, masks=masks)
    asking.application = Application(asking.service)
    asking.verify()
    row = replace(facts_of(random.Random(1), "member", "pro", "active", "platform.use"), version=17)  # noqa: S311 - no secret
    FACTS.members = {(USER, "w"): row}
    for kind in ("authorize", "nginx"):
        asked = sent(kind, "platform.use", **{"X-Request-ID": "r-1"})
        asking.by_endpoint(asked)
        alike = asking.alike(asked)
        for key in (b"k" * 32, b"n" * 32):
            masks.replace_key(key)
            asking.lines.clear()
            asking.by_endpoint(asked)
            assert asking.plainly(asked, row, alike=alike) is not None
            theirs, ours = map(without_times, asking.lines)
            assert ours == theirs


def test_what_a_gateway_may_ask_is_found_for_each_peer():
    """One head may come from this machine, whose gateways need no token, and from another."""
    asking = Asking()
    asking.verify()
    asked = sent("haproxy", "platform.use")
    alike = asking.alike(asked)
    for remote, is_plain in (
        ("127.0.0.1", True),
        ("10.0.0.7", False),
        ("127.0.0.2", True),
        ("10.0.0.7", False),
    ):
        assert (asking.question(alike, asked, remote=remote) is not None) is is_plain


@pytest.mark.parametrize(
    ("target", "headers", "is_plain"),
    [
        ("/by-claim", {}, True),
        ("/by-claim", {"Authorization": a_token(team=7)}, False),
        ("/by-claim", {"Authorization": a_token(team="a\0b")}, False),
        ("/hosted", {}, True),
        ("/hosted", {"Host": "y"}, False),
        ("/by-header", {"X-Sidecar-Token": BACKEND, "X-User": USER.encode().decode("latin-1")}, False),
        ("/by-header", {"X-Sidecar-Token": BACKEND, "X-User": "u", "X-Workspace": "w"}, True),
        ("/by-header", {"X-Sidecar-Token": BACKEND, "X-User": "u", "X-Workspace": "\xff"}, False),
        ("/by-header", {"X-Sidecar-Token": "wrong", "X-User": "u", "X-Workspace": "w"}, False),
        ("/by-header", {"X-User": "u", "X-Workspace": "w"}, False),
        ("/consumes", {}, False),
        ("/once", {}, True),
        ("/once", {"X-Request-Key": "k"}, False),
        ("/once", {"X-Request-Key": " "}, False),
        ("/by-claim?", {}, True),
        ("/%62y-claim", {}, False),
        ("/BY-CLAIM", {}, False),
        ("/nowhere", {}, False),
    ],
)
def test_a_gateways_question_is_plain_if_the_endpoint_would_ask_the_same(target, headers, is_plain):
    asking = Asking()
    FACTS.members = {(user, "w"): some_facts() for user in (USER, "u")}
    asked = Sent("GET", "/gw/nginx", {"Authorization": TOKEN, "Host": "x"} | headers)
    asked = asked._replace(headers={**asked.headers, "X-Original-Method": "GET", "X-Original-URI": target})
    asking.verify(asked.headers["Authorization"])
    before = asking.by_endpoint(asked)
    question = asking.question(asking.alike(asked), asked)
    assert (question is not None) is is_plain
    if question is not None:
        assert before[0] == 200
        line = json.loads(asking.lines[-1] + b"}")
        assert (question.user, question.workspace, question.action) == (
            line["user"],
            line["workspace"],
            line["action"],
        )


FIELDS: dict[str, tuple[str | None, ...]] = {
    "Authorization": (TOKEN, a_token("u"), a_token(team="v"), None, "Bearer a.b.c"),
    "Host": ("x", "y", None),
    "X-Original-Method": ("GET", "POST"),
    "X-Original-URL": (None, None, "https://x/once", "https://y/hosted"),
    "X-Original-URI": ("/by-claim", "/by-header", "/hosted", "/once", "/workspaces/w/platform.use", "/none"),
    "X-Forwarded-Method": ("GET", None),
    "X-Forwarded-Uri": ("/by-header", "/once"),
    "X-Forwarded-Host": ("x", "y", None),
    "X-Sidecar-Token": (None, BACKEND, "wrong"),
    "X-User": ("u", "v", None),
    "X-Workspace": ("w", "v", None),
    "X-Request-Key": (None, "k"),
    "X-Request-ID": ("1", "2", "3"),
}


def test_what_is_remembered_of_other_requests_changes_no_question():
    """For any fields in any order of requests, it is what would be found if nothing was remembered."""
    remembering, chance = Asking(), random.Random(3)  # noqa: S311 - no secret
    tokens = [TOKEN, *FIELDS["Authorization"][1:3]]
    remembering.verify(*tokens)
    found = []
    for _ in range(3_000):
        chosen = {name: chance.choice(values) for name, values in FIELDS.items()}
        headers = {name: value for name, value in chosen.items() if value is not None}
        asked = Sent(
            "GET",
            chance.choice(("/gw/nginx", "/gw/ingress-nginx", "/gw/forward-auth", "/gw/ext-authz/once")),
            headers,
        )
        remote = chance.choice(("127.0.0.1", "10.0.0.7"))
        fresh = PlainChecks(remembering.service)
        question = remembering.question(remembering.alike(asked), asked, remote=remote)
        remembering.application.plain, kept = fresh, remembering.application.plain
        assert question == remembering.question(remembering.alike(asked), asked, remote=remote)
        remembering.application.plain = kept
        found.append(question)
    assert len(set(found)) > 15
    assert sum(question is not None for question in found) > 100


def test_a_line_that_varies_counts_where_a_route_reads_it():
    """Requests of one kept head differ in such lines alone: whoever reads one must read each of them."""
    asking = Asking()
    asking.verify()
    by_key = sent(
        "nginx", "", **{"X-Original-URI": "/by-key", "X-Sidecar-Token": BACKEND, "X-Workspace": "w"}
    )
    alike = asking.alike(by_key)
    for user in ("u", "v", "u", "v"):
        asked = asking.question(alike, by_key._replace(headers=by_key.headers | {"X-Request-Key": user}))
        assert asked is not None
        assert asked.user == user
    once = sent("nginx", "", **{"X-Original-URI": "/once"})
    alike = asking.alike(once)
    assert asking.question(alike, once) is not None
    repeated = once._replace(headers=once.headers | {"X-Request-Key": "k-1"})
    assert asking.question(alike, repeated) is None
    assert asking.question(alike, once) is not None


def test_a_field_that_nobody_reads_may_be_new_each_time_and_little_is_remembered():
    asking, made = Asking(), []
    asking.verify()
    for number in range(50):
        asked = sent("nginx", "platform.use", **{"X-Request-ID": f"r-{number}"})

        def request(asked=asked):
            made.append(asked)
            return asking.request(asked)

        assert (
            asking.alike(asked).asked(b"", header=asked.header, remote="127.0.0.1", request=request)
            is not None
        )
    assert len(made) == 1
    for number in range(5_000):
        asked = sent("nginx", "platform.use")
        asked.headers["X-Original-URI"] = f"/workspaces/w{number}/platform.use"
        assert asking.question(asking.alike(asked), asked) is not None
    assert len(asking.application.plain._gateways["gateway_nginx"].found) <= 2_048  # noqa: SLF001 - its bound
    asked = sent("nginx", "platform.use", Host="h" * 4_000)
    asked.headers["X-Original-URI"] += "x" * 4_000
    asking.question(asking.alike(asked), asked)
    assert all(
        sum(map(len, filter(None, key))) <= 2_048
        for key in asking.application.plain._gateways["gateway_nginx"].found  # noqa: SLF001 - ditto
    )
