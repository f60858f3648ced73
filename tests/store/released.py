"""sql/released.json, written by `make schema`: each migration's checksum, for good, and what it locks."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from sidecar.settings import shipped
from sidecar.store.apart import run_apart, runs_apart
from sidecar.store.giving_way import Patience
from sidecar.store.migrate import CREATE_LEDGER, CREATE_SCHEMA, migrations_in, released

FILE = shipped("sql") / "released.json"
TABLES = "SELECT oid FROM pg_class WHERE relnamespace = 'authz'::regnamespace AND relkind = 'r'"
# AccessShareLock is what reading takes: it waits for nobody but another migration.
LOCKS = """
    SELECT l.relation::regclass::text, l.mode
    FROM pg_locks AS l
    WHERE l.pid = pg_backend_pid() AND l.relation = ANY (%s) AND l.mode <> 'AccessShareLock'
"""
MODES = (
    "ROW SHARE",
    "ROW EXCLUSIVE",
    "SHARE UPDATE EXCLUSIVE",
    "SHARE",
    "SHARE ROW EXCLUSIVE",
    "EXCLUSIVE",
    "ACCESS EXCLUSIVE",
)  # the strongest last


def locks_found(url: str) -> dict[str, dict[str, str]]:
    """By file, in an empty database: the strongest lock on each table that was there before the file."""
    found: dict[str, dict[str, str]] = {}
    modes = {mode.replace(" ", "").lower() + "lock": mode for mode in MODES}
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(CREATE_SCHEMA)
        connection.execute(CREATE_LEDGER)
        for migration in migrations_in(shipped("sql") / "migrations"):
            if runs_apart(migration.text):
                run_apart(connection, migration.text, patience=Patience(60))
                found[migration.name] = {}
                continue
            with connection.transaction():
                before = [oid for (oid,) in connection.execute(TABLES)]
                connection.execute(migration.text.encode())
                held: dict[str, str] = {}
                for table, mode in connection.execute(LOCKS, (before,)):
                    held[table] = max(held.get(table, MODES[0]), modes[mode.lower()], key=MODES.index)
            found[migration.name] = dict(sorted(held.items()))
    return found


def released_anew(url: str) -> dict[str, dict[str, Any]]:
    """Of an empty database."""
    locks = locks_found(url)
    return {
        each.name: {"checksum": each.checksum, "locks": locks[each.name]}
        for each in migrations_in(shipped("sql") / "migrations")
    }


def write_released(server: str) -> None:
    """SystemExit if a file that is listed was edited: it may be applied somewhere."""
    there, database = released(), "released"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {database} TEMPLATE template0".encode())
    anew = released_anew(psycopg.conninfo.make_conninfo(server, dbname=database))
    if edited := [
        name for name in there if name in anew and there[name]["checksum"] != anew[name]["checksum"]
    ]:
        raise SystemExit(
            f"{', '.join(edited)}: edited after release. Restore it and write another; if main never had it,"
            " delete its line in sql/released.json."
        )
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(each)}" for name, each in anew.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
