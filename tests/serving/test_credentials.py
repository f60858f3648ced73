"""Tokens, keys and passwords in files: what is changed is in force without a reload, and never half of it."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest
from psycopg.pq import PGconn

from sidecar.identity.callers import new_token, token_line
from sidecar.store.addresses import conninfo_of, conninfo_to, destination_of
from sidecar.store.session_setup import SessionSetup
from tests.identity.provider import AUDIENCE, ISSUER, SECRET, a_token
from tests.serving.processes import children_of
from tests.serving.serving import serving

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OLD, NEW = new_token(), new_token()
OTHER_SECRET = "another-secret-of-at-least-32-characters"  # noqa: S105 - of tests
PEOPLE = "/workspaces"


def write(path, text):
    """As a careful editor: whole, under another name, then in its place."""
    beside = path.with_name("new")
    beside.write_text(text)
    beside.replace(path)


def lines(*tokens):
    return "".join(f"{token_line(f'backend-{n}', ['authorize'], each)}\n" for n, each in enumerate(tokens))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("credentials")
    (folder / "tokens").write_text(lines(OLD))
    (folder / "secret").write_text(SECRET)
    (folder / "mask.key").write_text("0123456789abcdef")
    (folder / "mask.key").chmod(0o600)
    return folder


@pytest.fixture(scope="module")
def sidecar(database, opa, files, tmp_path_factory):
    with serving(
        tmp_path_factory.mktemp("sidecar"),
        database_url=database,
        opa_url=opa.url,
        deadline_ms=5_000,
        tokens=files / "tokens",
        jwt_keys=f"hs256:{files / 'secret'}",
        jwt_issuer=ISSUER,
        jwt_audience=AUDIENCE,
        log_mask="user",
        log_mask_key=files / "mask.key",
    ) as sidecar:
        assert sidecar.until(sidecar.is_ready, within_s=30), sidecar.said
        yield sidecar


@pytest.fixture(autouse=True)
def as_it_was(files, sidecar):
    yield
    write(files / "tokens", lines(OLD))
    write(files / "secret", SECRET)
    assert sidecar.until(lambda: statuses(sidecar, OLD) == {200} and statuses(sidecar, NEW) == {401})


def statuses(sidecar, token, *, times=12):
    """Of the same head again and again, so that each worker has kept it; each on a connection of its own."""
    sidecar.headers = {"Authorization": f"Bearer {token}"}
    try:
        return {sidecar.ask()[0] for _ in range(times)}
    finally:
        sidecar.headers = {}


def of_users(sidecar, token, *, times=12):
    headers = {"Authorization": f"Bearer {token}"}
    return {sidecar.request("GET", PEOPLE, headers=headers)[0] for _ in range(times)}


def test_a_token_that_is_added_or_taken_out_is_so_for_every_worker(sidecar, files):
    assert (statuses(sidecar, OLD), statuses(sidecar, NEW)) == ({200}, {401})

    write(files / "tokens", lines(NEW))

    assert sidecar.until(
        lambda: statuses(sidecar, NEW) == {200} and statuses(sidecar, OLD) == {401}, within_s=10
    )
    time.sleep(1)
    assert sidecar.said.count("SIDECAR_TOKENS was read anew") >= 1


@pytest.mark.parametrize("broken", [lines(NEW)[:-20], None], ids=["broken", "gone"])
def test_a_file_that_is_broken_or_gone_leaves_the_tokens_as_they_were_and_is_one_line(sidecar, files, broken):
    before = sidecar.said.count("SIDECAR_TOKENS: what was read before stays in force")
    if broken is None:
        (files / "tokens").unlink()
    else:
        (files / "tokens").write_text(broken)

    assert sidecar.until(
        lambda: sidecar.said.count("SIDECAR_TOKENS: what was read before stays in force") > before
    )
    time.sleep(1.5)
    assert sidecar.said.count("SIDECAR_TOKENS: what was read before stays in force") == before + 1
    assert (statuses(sidecar, OLD), statuses(sidecar, NEW)) == ({200}, {401})
    assert NEW not in sidecar.said


def test_a_key_of_users_that_is_changed_is_in_force_and_who_was_verified_is_verified_again(sidecar, files):
    former, newer = a_token(), a_token(OTHER_SECRET)
    assert (of_users(sidecar, former), of_users(sidecar, newer)) == ({200}, {401})

    write(files / "secret", OTHER_SECRET)

    assert sidecar.until(
        lambda: of_users(sidecar, newer) == {200} and of_users(sidecar, former) == {401}, within_s=10
    )


def test_a_key_of_masks_that_is_changed_is_in_force(sidecar, files):
    def codes():
        statuses(sidecar, OLD)
        return {line["user"] for line in [line for line in sidecar.lines if "user" in line][-6:]}

    [before] = codes()
    (files / "mask.key").write_text("fedcba9876543210")

    assert sidecar.until(lambda: len(codes()) == 1 and before not in codes(), within_s=10)


def test_a_worker_that_replaces_another_has_the_tokens_of_now(sidecar, files):
    write(files / "tokens", lines(NEW))
    assert sidecar.until(lambda: statuses(sidecar, NEW) == {200}, within_s=10)
    ready = sidecar.said.count("ready: revision")

    for pid in children_of(sidecar.process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    assert sidecar.until(lambda: sidecar.said.count("ready: revision") >= ready + 2)
    assert (statuses(sidecar, NEW), statuses(sidecar, OLD)) == ({200}, {401})


def test_a_password_file_is_read_at_each_connect(tmp_path):
    """By libpq, whose connection says which password it would show; nobody has to be there for that."""
    passwords = tmp_path / "passwords"
    url = f"postgresql://sidecar@db.example.com/app?passfile={passwords}"
    conninfo = conninfo_of(url, SessionSetup(pooler="off", statement_timeout_ms=1_000, lock_timeout_ms=75))
    [host] = destination_of(conninfo).hosts

    def password_of_a_new_connection():
        connection = PGconn.connect_start(conninfo_to(conninfo, host, "127.0.0.1", session="any"))
        try:
            return connection.password
        finally:
            connection.finish()

    for password in (b"first-word", b"second-word"):
        passwords.write_text(f"db.example.com:5432:app:sidecar:{password.decode()}\n")
        passwords.chmod(0o600)  # else libpq passes it over
        assert password_of_a_new_connection() == password
