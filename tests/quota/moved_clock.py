"""A database whose clock a test can move: every function of ours goes by it."""

from __future__ import annotations

import re

from tests.postgres_server import rows, run

CLOCKED = """
    SELECT pg_get_functiondef(p.oid) FROM pg_proc AS p
    WHERE p.pronamespace = 'authz'::regnamespace
      AND pg_get_functiondef(p.oid) ~ '(clock|statement)_timestamp\\(\\)'
"""


def let_the_clock_be_moved(url):
    definitions = [definition for (definition,) in rows(url, CLOCKED)]
    view = rows(url, "SELECT pg_get_viewdef('authz.member_facts'::regclass)")[0][0]
    run(
        url,
        "CREATE TABLE authz.test_clock AS SELECT interval '0' AS ahead, NULL::timestamptz AS at",
        """CREATE FUNCTION authz.test_time() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
        RETURN (SELECT COALESCE(c.at, pg_catalog.clock_timestamp()) + c.ahead FROM authz.test_clock AS c)""",
        "GRANT EXECUTE ON FUNCTION authz.test_time() TO PUBLIC",
        *map(clocked, definitions),
        f"CREATE OR REPLACE VIEW authz.member_facts AS {clocked(view)}",
    )


def clocked(definition: str) -> str:
    return re.sub(r"(pg_catalog\.)?\b(clock|statement)_timestamp\(\)", "authz.test_time()", definition)


def stop_clock(place, *, at="clock_timestamp()"):
    """*at* is an SQL expression."""
    place.sql(f"UPDATE authz.test_clock SET at = {at}, ahead = '0'")


def move(place, seconds):
    place.sql("UPDATE authz.test_clock SET ahead = make_interval(secs => %s)", seconds)
