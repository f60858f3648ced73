"""A roleplay trainer with teams and plans: the product's own routes, each guarded by the sidecar.

Workspaces, members and invitations are the sidecar's routes, and so is the question who may do what. What
is left for the product is the product.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import jwt
import psycopg
from flask import Flask, abort, current_app, g, jsonify, request
from psycopg.types.json import Jsonb

from sidecar.guard import Client, Denied, init_app, require, require_workspace, reserve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flask import Response
    from flask.typing import ResponseReturnValue

AUDIENCE = "authenticated"
USUAL_MINUTES = 30
LONGEST_RECORDING_S = 3_600
READ = "SELECT value FROM kv_store_b9a572ea WHERE key = %s"
READ_ALL = "SELECT key, value FROM kv_store_b9a572ea ORDER BY key"
WRITE = """
    INSERT INTO kv_store_b9a572ea (key, value) VALUES (%s, %s)
    ON CONFLICT (workspace_id, key) DO UPDATE SET value = excluded.value
"""
ENTER = "SELECT authz.enter(%s, %s)"


def create_app(*, sidecar: Client, database_url: str, jwt_secret: str) -> Flask:
    """*database_url* is that of an ordinary login, which owns nothing: see prepare.sql."""
    app = Flask(__name__)
    app.config.update(DATABASE_URL=database_url, JWT_SECRET=jwt_secret)
    init_app(app, client=sidecar, user=signed_in)

    app.get("/workspaces/<workspace>/me")(me)
    app.post("/workspaces/<workspace>/roleplays")(start_roleplay)
    app.post("/workspaces/<workspace>/avatar-roleplays")(start_with_avatar)
    app.post("/workspaces/<workspace>/team-sessions")(start_team_session)
    app.post("/workspaces/<workspace>/recordings")(record)
    app.get("/workspaces/<workspace>/kv")(read_all)
    app.get("/workspaces/<workspace>/kv/<key>")(read)
    app.put("/workspaces/<workspace>/kv/<key>")(write)
    return app


def signed_in() -> str | None:
    """The user that the identity provider's token is about; None without a good one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims = jwt.decode(
            token,
            current_app.config["JWT_SECRET"],
            algorithms=["HS256"],
            audience=AUDIENCE,
            options={"require": ["exp", "sub", "aud"]},
        )
    except jwt.PyJWTError:
        return None
    user: str = claims["sub"]
    return user


@require_workspace
def me(workspace: str) -> Response:  # noqa: ARG001 - the guard reads it
    """What the frontend needs to draw its buttons and meters."""
    return jsonify(asdict(g.workspace.entitlements))


@require("roleplay.start")
def start_roleplay(workspace: str) -> ResponseReturnValue:
    return {"roleplay": uuid4().hex, "workspace": workspace, "avatar": False}, 201


@require("roleplay.start_with_avatar")
def start_with_avatar(workspace: str) -> ResponseReturnValue:
    return {"roleplay": uuid4().hex, "workspace": workspace, "avatar": True}, 201


@require("team_sessions.start")
def start_team_session(workspace: str) -> ResponseReturnValue:
    return {"session": uuid4().hex, "workspace": workspace, "host": g.workspace.user}, 201


def record(workspace: str) -> ResponseReturnValue:
    """Minutes are reserved first; those that were spoken are committed, the rest is given back."""
    wanted = request.get_json()
    at_most = wanted.get("at_most", USUAL_MINUTES)
    with reserve("recording.start", minutes=at_most, ttl_s=LONGEST_RECORDING_S) as hold:
        used = recorded(wanted.get("script", ""), at_most=at_most)
        settled = hold.commit(minutes=used)
    return {"workspace": workspace, "minutes": used, "left": settled.quota["minutes"].remaining}, 201


def recorded(script: str, *, at_most: int) -> int:
    """How many minutes it takes to say *script*. A microphone would stand here, which may break."""
    if "cough" in script:
        abort(422, "nobody could be understood")
    return min(len(script.split()), at_most)


@require("data.view_own")
def read_all(workspace: str) -> ResponseReturnValue:  # noqa: ARG001 - the guard reads it
    with entered() as connection:
        return dict(connection.execute(READ_ALL).fetchall())


@require("data.view_own")
def read(workspace: str, key: str) -> ResponseReturnValue:  # noqa: ARG001 - ditto
    with entered() as connection:
        row = connection.execute(READ, (key,)).fetchone()
    return ({"value": row[0]}, 200) if row else ({"value": None}, 404)


@require("platform.use")
def write(workspace: str, key: str) -> ResponseReturnValue:  # noqa: ARG001 - ditto
    with entered() as connection:
        connection.execute(WRITE, (key, Jsonb(request.get_json())))
    return {"key": key}


@contextmanager
def entered() -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """One transaction, in which the tables show the workspace of the request and nothing else.

    The guard has asked already; PostgreSQL asks again, so that a guard that was forgotten shows nothing.
    """
    with psycopg.connect(current_app.config["DATABASE_URL"]) as connection:
        try:
            connection.execute(ENTER, (g.workspace.user, g.workspace.asked))
        except psycopg.errors.InsufficientPrivilege:
            raise Denied(403, "not_a_member", "The user is not a member of this workspace.") from None
        yield connection
