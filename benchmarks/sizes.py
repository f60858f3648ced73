"""What a consume leaves in the database: bytes of its key and of its line; what the index of lines costs."""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import LiteralString

import psycopg

from benchmarks import ledger_index
from benchmarks.world import fill
from sidecar.local.postgres import EmbeddedPostgres
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from sidecar.store.migrate import migrate

RESULTS = Path(__file__).with_name("SIZES.md")
CONSUMES, WORKSPACES = 100_000, 1_000
_MEASURED = ("usage_keys", "usage_ledger")

# As the sidecar takes: a key of 36 characters, and what a repeat is told again.
TAKE: LiteralString = """
    DO $$
    DECLARE
        place record;
        n integer := 0;
    BEGIN
        LOOP
            FOR place IN
                SELECT w.id, w.facts_version, m.user_id
                FROM authz.workspaces AS w
                JOIN authz.workspace_memberships AS m ON m.workspace_id = w.id AND m.role = 'owner'
            LOOP
                IF authz.take(
                    place.id, place.facts_version, place.user_id, 'recording.start', '{minutes}', '{1}',
                    '{NULL}', NULL, gen_random_uuid()::text,
                    encode(sha256(place.id::text::bytea), 'hex'), NULL, NULL,
                    gen_random_uuid()::text, md5('revision'),
                    '{"role":"owner","plan":"team","message":null,"revision":"5f0c1d2e3a4b5c6d7e8f90a1b2c3d4e5"}'
                ) ->> 'outcome' <> 'taken' THEN
                    RAISE 'it was not taken';
                END IF;
                n := n + 1;
            END LOOP;
            COMMIT;
            EXIT WHEN n >= current_setting('bench.consumes')::integer;
        END LOOP;
    END $$
"""
SIZE: LiteralString = "SELECT pg_total_relation_size(%s::regclass)"


def measured(url: str, *, consumes: int) -> dict[str, float]:
    """Bytes a row of each table, in the database at *url*, which has the benchmark's world."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT set_config('bench.consumes', %s, false)", (str(consumes),))
        connection.execute(TAKE)
        connection.execute("VACUUM authz.usage_keys, authz.usage_ledger")
        sizes = {name: connection.execute(SIZE, (f"authz.{name}",)).fetchone() or (0,) for name in _MEASURED}
    taken = -(-consumes // WORKSPACES) * WORKSPACES
    return {name: size / taken for name, (size,) in sizes.items()}


def page(found: dict[str, float], index: ledger_index.Measured, *, consumes: int, seconds: float) -> str:
    says = (
        f"Written by `python -m benchmarks.sizes`: {consumes:,} consumes with a key"
        f" in {WORKSPACES:,} workspaces, which took {seconds:.0f} s. Indexes are included."
    )
    return "\n".join(
        [
            "# Sizes",
            "",
            says,
            "",
            "| table | bytes a consume |",
            "|---|---:|",
            *(f"| `{name}` | {size:.0f} |" for name, size in found.items()),
            "",
            *ledger_index.section(index),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("consumes", type=int, nargs="?", default=CONSUMES)
    consumes = parser.parse_args().consumes
    compiled = compiled_at(shipped("plans.yaml"), shipped("policies"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        database = stack.enter_context(EmbeddedPostgres(folder / "postgres"))
        migrate(database.url, catalog=compiled.catalog, revision=compiled.revision)
        fill(database.url, workspaces=WORKSPACES)
        began = time.monotonic()
        found = measured(database.url, consumes=consumes)
        seconds = time.monotonic() - began
        index = ledger_index.measured(database.url)
        text = page(found, index, consumes=consumes, seconds=seconds)
    if consumes == CONSUMES:
        RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
