"""The seed's four test scenarios, end to end and in its words: the trainer, the sidecar and PostgreSQL.

And what else the trainer promises.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import pairwise
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import jwt
import pytest

from examples.roleplay.__main__ import prepared
from examples.roleplay.app import AUDIENCE, create_app
from sidecar.cli.dev import JWT_SECRET, TOKEN
from sidecar.guard import Client
from sidecar.guard.testing import unguarded
from tests.identity.provider import a_token
from tests.postgres_server import run
from tests.servers import free_port
from tests.serving.demo import the_demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Flask

    from tests.serving.serving import Sidecar

pytestmark = pytest.mark.postgres

PATIENT_S = 15


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a token of the identity provider's, who uses the trainer and the sidecar's routes."""

    id: str
    email: str
    product: Product

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {a_token(JWT_SECRET, sub=self.id, email=self.email)}"}

    def asks_the_sidecar(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        status, document = self.product.sidecar.request(method, path, body, headers=self.headers)
        return status, document

    def asks(self, method: str, path: str, body: object = None) -> Any:
        client = self.product.app.test_client()
        return client.open(path, method=method, headers=self.headers, json=body)

    @property
    def home(self) -> dict[str, Any]:
        """The workspace that the signup made."""
        status, answer = self.asks_the_sidecar("GET", "/workspaces")
        assert status == 200
        [workspace] = [each for each in answer["workspaces"] if each["role"] == "owner"]
        found: dict[str, Any] = workspace
        return found


@dataclass(frozen=True, kw_only=True)
class Product:
    app: Flask
    sidecar: Sidecar
    owner_url: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.sidecar.port}"

    def somebody(self, name: str) -> Person:
        unique = f"{name}-{uuid4().hex[:8]}"
        return Person(id=unique, email=f"{unique}@example.com", product=self)

    def sells(self, plan: str, workspace: dict[str, Any]) -> None:
        """As the billing system does."""
        status, _ = self.sidecar.request("PUT", f"/v1/workspaces/{workspace['id']}/plan", {"plan": plan})
        assert status == 200


@pytest.fixture(scope="module")
def product(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with (
        the_demo(tmp_path_factory.mktemp("product"), database_url) as sidecar,
        Client(f"http://127.0.0.1:{sidecar.port}", token=TOKEN, timeout_s=PATIENT_S) as client,
    ):
        app = create_app(sidecar=client, database_url=prepared(database_url), jwt_secret=JWT_SECRET)
        yield Product(app=app, sidecar=sidecar, owner_url=database_url)
    run(database_url, "DROP OWNED BY roleplay CASCADE", "DROP ROLE roleplay")


def joined(product: Product, owner: Person, name: str, *, role: str = "member") -> Person:
    """A new person, invited by *owner* to their home, who has accepted."""
    invited = product.somebody(name)
    status, invitation = owner.asks_the_sidecar(
        "POST", f"/workspaces/{owner.home['id']}/invite", {"email": invited.email, "role": role}
    )
    assert status == 201
    status, _ = invited.asks_the_sidecar("POST", "/invitations/accept", {"token": invitation["token"]})
    assert status == 200
    return invited


def test_signup_gives_a_workspace_its_owner_and_starter_features(product):
    """signup → workspace, owner, starter features"""
    a = product.somebody("a")
    workspace = a.home
    has = a.asks("GET", f"/workspaces/{workspace['slug']}/me").json

    assert (workspace["role"], workspace["plan_tier"]) == ("owner", "starter")
    assert (has["workspace"]["role"], has["workspace"]["plan"]) == ("owner", "starter")
    assert [feature for feature, on in has["features"].items() if on] == ["scenario_builder"]
    assert has["quotas"]["minutes"]["limit"] == 100


def test_a_invites_b_b_joins_and_both_see_the_same_data(product):
    """A invites B, B joins, both see the same data"""
    a = product.somebody("a")
    product.sells("team", a.home)
    here = f"/workspaces/{a.home['slug']}"
    assert a.asks("PUT", f"{here}/kv/score", {"points": 7}).status_code == 200

    b = joined(product, a, "b")
    assert b.asks("PUT", f"{here}/kv/mood", "good").status_code == 200

    assert a.asks("GET", f"{here}/kv").json == b.asks("GET", f"{here}/kv").json
    assert b.asks("GET", f"{here}/kv").json == {"mood": "good", "score": {"points": 7}}
    assert {place["slug"] for place in b.asks_the_sidecar("GET", "/workspaces")[1]["workspaces"]} == {
        a.home["slug"],
        b.home["slug"],
    }


def test_a_in_workspace_1_gets_403_on_workspace_2(product):
    """A in workspace 1 on workspace 2 → 403"""
    a, other = product.somebody("a"), product.somebody("other")
    for path in ("me", "kv", "kv/score"):
        response = a.asks("GET", f"/workspaces/{other.home['id']}/{path}")

        assert (response.status_code, response.json["code"]) == (403, "not_a_member")
    for path in ("roleplays", "avatar-roleplays", "team-sessions", "recordings"):
        assert a.asks("POST", f"/workspaces/{other.home['slug']}/{path}", {}).status_code == 403
    assert a.asks("PUT", f"/workspaces/{other.home['slug']}/kv/score", 1).status_code == 403
    assert a.asks("GET", "/workspaces/nowhere/kv").status_code == 403


def test_what_a_plan_includes_can_be_used_and_what_it_does_not_is_402(product):
    """starter → video avatar 402, pro → success, team → team sessions success"""
    a = product.somebody("a")
    workspace = a.home
    here = f"/workspaces/{workspace['slug']}"
    assert a.asks("POST", f"{here}/roleplays").status_code == 201

    denied = a.asks("POST", f"{here}/avatar-roleplays")
    assert (denied.status_code, denied.json["code"]) == (402, "feature_not_in_plan")
    assert [each["plan"] for each in denied.json["upgrade"]] == ["pro", "team"]

    product.sells("pro", workspace)
    assert a.asks("POST", f"{here}/avatar-roleplays").json["avatar"] is True
    assert [each["plan"] for each in a.asks("POST", f"{here}/team-sessions").json["upgrade"]] == ["team"]

    product.sells("team", workspace)
    assert a.asks("POST", f"{here}/team-sessions").status_code == 201


def minutes(person: Person) -> dict[str, Any]:
    has = person.asks("GET", f"/workspaces/{person.home['slug']}/me").json
    found: dict[str, Any] = has["quotas"]["minutes"]
    return found


def test_a_recording_takes_what_was_spoken_and_gives_the_rest_back(product):
    a = product.somebody("a")
    response = a.asks(
        "POST", f"/workspaces/{a.home['slug']}/recordings", {"at_most": 30, "script": "what would it take"}
    )

    assert response.status_code == 201
    assert (response.json["minutes"], response.json["left"]) == (4, 96)
    assert (minutes(a)["used"], minutes(a)["reserved"]) == (4, 0)


@pytest.mark.parametrize(("script", "status"), [("", 201), ("sorry cough", 422)])
def test_a_recording_of_nothing_takes_nothing(product, script, status):
    a = product.somebody("a")

    assert (
        a.asks("POST", f"/workspaces/{a.home['slug']}/recordings", {"script": script}).status_code == status
    )
    assert (minutes(a)["used"], minutes(a)["reserved"]) == (0, 0)


def test_a_recording_longer_than_the_plan_is_402_and_says_which_plan_has_room(product):
    a = product.somebody("a")
    denied = a.asks("POST", f"/workspaces/{a.home['slug']}/recordings", {"at_most": 501})

    assert (denied.status_code, denied.json["code"]) == (402, "quota_exceeded")
    assert [each["plan"] for each in denied.json["upgrade"]] == ["team"]


@pytest.mark.parametrize("at_most", [0, "many", None, 1.5])
def test_a_recording_of_no_length_is_400(product, at_most):
    a = product.somebody("a")

    assert a.asks("POST", f"/workspaces/{a.home['slug']}/recordings", {"at_most": at_most}).status_code == 400


def test_the_same_key_in_two_workspaces_is_two_values(product):
    people = [product.somebody("a"), product.somebody("b")]
    for number, person in enumerate(people):
        assert person.asks("PUT", f"/workspaces/{person.home['slug']}/kv/score", number).status_code == 200

    for number, person in enumerate(people):
        here = f"/workspaces/{person.home['slug']}/kv"
        assert person.asks("GET", f"{here}/score").json == {"value": number}
        assert person.asks("GET", here).json == {"score": number}
        assert person.asks("GET", f"{here}/none").status_code == 404


def test_who_was_removed_sees_nothing_any_more(product):
    a = product.somebody("a")
    product.sells("team", a.home)
    b, here = joined(product, a, "b"), f"/workspaces/{a.home['slug']}"
    assert b.asks("GET", f"{here}/kv").status_code == 200

    status, _ = a.asks_the_sidecar("DELETE", f"{here}/members/{b.id}")

    assert status == 204
    assert b.asks("GET", f"{here}/kv").status_code == 403


def test_who_has_no_token_or_a_bad_one_has_not_signed_in(product):
    client, path = product.app.test_client(), "/workspaces/acme/kv"
    forged = jwt.encode({"sub": "mia", "aud": AUDIENCE, "exp": int(time()) + 60}, "x" * 32, algorithm="HS256")

    for header in ("", "Bearer ", f"Bearer {forged}", "Basic bWlhOg=="):
        assert client.get(path, headers={"Authorization": header}).status_code == 401


def test_while_the_sidecar_is_away_nobody_gets_in(product):
    app = create_app(
        sidecar=Client(f"http://127.0.0.1:{free_port()}"),
        database_url=product.app.config["DATABASE_URL"],
        jwt_secret=JWT_SECRET,
    )
    a = product.somebody("a")

    response: Any = app.test_client().get(f"/workspaces/{a.home['slug']}/kv", headers=a.headers)

    assert (response.status_code, response.json["code"]) == (503, "authorization_unavailable")


def test_the_command_prints_requests_that_do_what_they_say(product, tmp_path):
    (tmp_path / "database.url").write_text(product.owner_url + "\n")
    options = ["--port", free_port(), "--sidecar", product.url, "--data-dir", tmp_path]
    command = [sys.executable, "-m", "examples.roleplay", *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            printed = "".join(iter(process.stdout.readline, "Ctrl-C ends it.\n"))
            asked = [request for request in requests_in(printed) if "/invite" not in request[1]]
            answers = [answer_to(*request) for request in asked]
        finally:
            process.terminate()

    assert [status for status, _ in answers] == [402, 201, 201]
    assert answers[2][1]["minutes"] == 7


def requests_in(printed: str) -> list[tuple[str, str, str | None, dict[str, str]]]:
    """Method, URL, body and headers of each curl."""
    found = []
    for text in re.findall(r"curl -s (.*?)\n\n", printed.replace("\\\n", " "), re.DOTALL):
        words = shlex.split(text)
        options = list(pairwise(words))
        headers = dict(value.split(": ", 1) for name, value in options if name == "-H")
        body = next((value for name, value in options if name == "-d"), None)
        [url] = [word for word in words if word.startswith("http://")]
        found.append(("POST", url, body, headers))
    return found


def answer_to(method: str, url: str, body: str | None, headers: dict[str, str]) -> tuple[int, Any]:
    """Once the server is there, which has said where it will be."""
    at = urlsplit(url)
    ending = monotonic() + PATIENT_S
    while True:
        connection = HTTPConnection(at.netloc, timeout=PATIENT_S)
        with closing(connection):
            try:
                connection.request(method, at.path, body, headers)
            except ConnectionRefusedError:
                assert monotonic() < ending
                sleep(0.05)
                continue
            response = connection.getresponse()
            return response.status, json.loads(response.read())


def test_no_view_was_forgotten(product):
    assert unguarded(product.app) == {"static", "record"}  # which reserves, and so asks, itself
