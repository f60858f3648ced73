"""sql/contract.json: what the migrations make of an empty database. Written by `make schema`."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import psycopg

from sidecar.settings import shipped
from sidecar.store.apart import run_apart, runs_apart
from sidecar.store.contract import objects_in, rights_in
from sidecar.store.giving_way import Patience
from sidecar.store.migrate import CREATE_LEDGER, CREATE_SCHEMA, migrations_in

FILE = shipped("sql") / "contract.json"
USERS = (
    None,
    "CREATE SCHEMA auth; CREATE TABLE auth.users (id uuid PRIMARY KEY, email varchar(255))",
    """CREATE SCHEMA auth; CREATE TABLE auth.users (
        id uuid PRIMARY KEY, email varchar(255), deleted_at timestamptz
    )""",
)  # some migrations make other functions where there are Supabase's users


def _made(url: str, users: str | None) -> tuple[dict[str, str], list[tuple[object, ...]]]:
    with psycopg.connect(url, autocommit=True) as connection:
        if users:
            connection.execute(users.encode())
        connection.execute(CREATE_SCHEMA)
        connection.execute(CREATE_LEDGER)
        for migration in migrations_in(shipped("sql") / "migrations"):
            if runs_apart(migration.text):
                run_apart(connection, migration.text, patience=Patience(60))
            else:
                connection.execute(migration.text.encode())
        return objects_in(connection), sorted(astuple(right) for right in rights_in(connection))


def contract_anew(urls: list[str]) -> dict[str, Any]:
    """Of three empty databases, one for each of USERS."""
    (plain, rights), *others = [_made(url, users) for url, users in zip(urls, USERS, strict=True)]
    assert all(of_other == rights for _, of_other in others)
    return {
        "migration": migrations_in(shipped("sql") / "migrations")[-1].name,
        "variants": [
            plain,
            *(
                {
                    name: other.get(name)
                    for name in sorted(plain.keys() | other.keys())
                    if plain.get(name) != other.get(name)
                }
                for other, _ in others
            ),
        ],
        "rights": [list(right) for right in rights],
    }


def write_contract(server: str) -> None:
    urls = []
    with psycopg.connect(server, autocommit=True) as connection:
        for number in range(len(USERS)):
            connection.execute(f"CREATE DATABASE contract_{number} TEMPLATE template0".encode())
            urls.append(psycopg.conninfo.make_conninfo(server, dbname=f"contract_{number}"))
    found = contract_anew(urls)
    variants = ",\n".join(
        "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in sorted(each.items())) + "\n}"
        for each in found["variants"]
    )
    rights = ",\n".join(f"  {json.dumps(each)}" for each in found["rights"])
    FILE.write_text(
        f'{{"migration": {json.dumps(found["migration"])},\n"variants": [{variants}],\n'
        f'"rights": [\n{rights}\n]}}\n',
        encoding="utf-8",
    )
