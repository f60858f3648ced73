"""`make example`: the trainer, beside the sidecar that `make run` has started."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import jwt
import psycopg
from psycopg.conninfo import make_conninfo

from examples.roleplay.app import AUDIENCE, create_app
from sidecar.cli.dev import HOST, JWT_SECRET, TOKEN
from sidecar.guard import Client

PREPARE = (Path(__file__).parent / "prepare.sql").read_bytes()
LOGIN = {"user": "roleplay", "password": "roleplay"}  # of a database that only this machine reaches
A_DAY_S = 24 * 60 * 60
TRY = (
    (
        "sam's plan has no video avatar: payment required",
        "sam",
        "-X POST {app}/workspaces/solo/avatar-roleplays",
    ),
    ("pia's has one", "pia", "-X POST {app}/workspaces/piano/avatar-roleplays"),
    (
        "mia says seven words: seven of the minutes are taken, the rest of 30 is given back",
        "mia",
        '{app}/workspaces/acme/recordings -d \'{{"script": "so what would make you sign today"}}\'',
    ),
    (
        "adam invites zoe to Acme, by a route of the sidecar's own",
        "adam",
        '{sidecar}/workspaces/acme/invite -d \'{{"email": "zoe@example.com", "role": "member"}}\'',
    ),
)


def prepared(owner_url: str) -> str:
    """The URL of the application's own login, once the owner of *owner_url* has made its tables."""
    with psycopg.connect(owner_url) as connection:
        connection.execute(PREPARE)
    return make_conninfo(owner_url, **LOGIN)


def token_of(user: str) -> str:
    """A token as an identity provider would issue it, for development."""
    claims = {
        "sub": user,
        "email": f"{user}@example.com",
        "aud": AUDIENCE,
        "exp": int(time.time()) + A_DAY_S,
    }
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.roleplay", description=__doc__)
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--sidecar", default=f"http://{HOST}:8080", help="where `make run` listens")
    parser.add_argument("--data-dir", type=Path, default=Path(".sidecar/dev"), help="where its data are")
    chosen = parser.parse_args()
    try:
        app_url = prepared((chosen.data_dir / "database.url").read_text().strip())
    except (OSError, psycopg.OperationalError) as error:
        sys.exit(f"the database of {chosen.data_dir} is not there: start `make run` first ({error})")

    app = create_app(sidecar=Client(chosen.sidecar, token=TOKEN), database_url=app_url, jwt_secret=JWT_SECRET)
    trainer = f"http://{HOST}:{chosen.port}"
    print(f"The trainer answers on {trainer}, the sidecar on {chosen.sidecar}. Try:")
    for says, user, request in TRY:
        command = request.format(app=trainer, sidecar=chosen.sidecar)
        print(f"\n  # {says}\n  curl -s {command} \\\n    -H 'Content-Type: application/json' \\")
        print(f"    -H 'Authorization: Bearer {token_of(user)}'")
    print("\nCtrl-C ends it.", flush=True)
    app.run(HOST, chosen.port)


if __name__ == "__main__":
    main()
