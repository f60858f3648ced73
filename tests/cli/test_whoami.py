"""Whose a token is: never with the token, or its hash, in what is said."""

from __future__ import annotations

import io
import sys
import time
from hashlib import sha256

import pytest

from sidecar.cli import main
from sidecar.identity.callers import new_token, token_line
from tests.identity.provider import AUDIENCE, ISSUER, PRIVATE, SECRET, a_jwk, a_set, a_token

TOKEN = new_token()


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    tokens, secret = tmp_path / "tokens", tmp_path / "secret"
    line = token_line("backend", ["people", "authorize"], TOKEN)
    tokens.write_text(f"{line} # made 2026-11-29T03:00:00Z by ops\n")
    secret.write_text(SECRET)
    monkeypatch.setenv("SIDECAR_TOKENS", str(tokens))
    monkeypatch.setenv("SIDECAR_JWT_KEYS", f"hs256:{secret}")
    monkeypatch.setenv("SIDECAR_JWT_ISSUER", ISSUER)
    monkeypatch.setenv("SIDECAR_JWT_AUDIENCE", AUDIENCE)


@pytest.fixture
def whoami(monkeypatch, capsys):
    """(exit code, lines) of the command. Whatever it says, it says nothing of the token."""

    def run(*words, stdin=None):
        monkeypatch.setattr(sys, "argv", ["sidecar", "whoami", *words])
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        for word in " ".join([*words, stdin or ""]).split():
            if len(word) > 8:
                assert word not in said.out + said.err
                assert word.rpartition(".")[2] not in said.out + said.err
                assert sha256(word.encode()).hexdigest() not in said.out + said.err
        return ended.value.code, (said.out + said.err).splitlines()

    return run


@pytest.mark.parametrize("words", [(TOKEN,), (f"Bearer {TOKEN}",), ("bearer", TOKEN)])
def test_a_callers_token_is_told_with_its_scopes_and_who_made_it(whoami, words):
    assert whoami(*words) == (
        0,
        ["the caller backend", "scopes: authorize, people", "made: 2026-11-29T03:00:00Z by ops"],
    )


def test_it_is_read_from_standard_input(whoami):
    assert whoami("-", stdin=f"{TOKEN}\n")[0] == 0
    assert whoami("-", stdin="")[0] == 1


def test_a_users_token_is_told_with_what_it_proves(whoami):
    code, lines = whoami(a_token(exp=int(time.time()) + 60))

    assert (code, lines[:2]) == (0, ["the end user adam", "email: adam@example.com, verified"])
    assert lines[2].startswith("expires: 2")


@pytest.mark.parametrize(
    ("token", "why"),
    [
        (lambda: a_token(exp=int(time.time()) - 99), "it has expired"),
        (lambda: a_token(aud="others"), f"aud is [others], expected {AUDIENCE}"),
        (lambda: a_token(iss="https://evil.example.com"), f"expected {ISSUER}"),
        (lambda: a_token("another-secret-of-32-characters-or-more"), "no key that it may be signed by"),
        (lambda: a_token(exp=int(time.time()) + 99 * 86_400), "more than 30 days"),
        (lambda: "sct_" + "x" * 43, "no line of"),
        (lambda: "nonsense-of-somebody", "it is no JWT"),
        (lambda: "-nonsense-of-somebody", "it is no JWT"),
        (lambda: "--nonsense-of-somebody", "it is no JWT"),
        (lambda: "nöthing-of-somebody", "it is no JWT"),
    ],
)
def test_why_a_token_is_nobodys_is_said(whoami, token, why):
    code, lines = whoami(token())

    assert (code, lines[0]) == (1, "nobody's")
    assert why in lines[1]


def test_what_a_refused_jwt_claims_is_told_as_a_claim(whoami):
    assert "it says sub: adam" in whoami(a_token(aud="others"))[1]


def test_keys_behind_a_url_are_not_asked_and_it_says_so(whoami, monkeypatch):
    monkeypatch.setenv("SIDECAR_JWT_KEYS", "https://idp.invalid/jwks?key=secret-word")
    signed = a_token(PRIVATE["ES256"], "ES256", headers={"kid": "one"})

    code, lines = whoami(signed)

    assert code == 69
    assert lines[0] == "the end user adam, if it is signed: that was not verified"
    assert lines[-1] == "not asked: the keys are at https://idp.invalid/jwks, and this command asks nobody"
    assert whoami(a_token(PRIVATE["ES256"], "ES256", aud="others"))[0] == 1


def test_a_jwk_set_in_a_file_is_enough(whoami, monkeypatch, tmp_path):
    (tmp_path / "jwks.json").write_bytes(a_set(a_jwk()))
    monkeypatch.setenv("SIDECAR_JWT_KEYS", str(tmp_path / "jwks.json"))

    assert whoami(a_token(PRIVATE["ES256"], "ES256", headers={"kid": "one"}))[0] == 0
    assert whoami(a_token(PRIVATE["ES256"], "ES256", headers={"kid": "two"}))[0] == 1


def test_without_settings_it_says_which_are_missing(whoami, monkeypatch):
    for name in ("TOKENS", "JWT_KEYS", "JWT_ISSUER", "JWT_AUDIENCE"):
        monkeypatch.delenv(f"SIDECAR_{name}")

    assert "SIDECAR_TOKENS is not set" in whoami(TOKEN)[1][1]
    assert "SIDECAR_JWT_KEYS" in whoami(a_token())[1][1]


def test_what_cannot_be_read_is_exit_code_78(whoami, monkeypatch, tmp_path):
    monkeypatch.setenv("SIDECAR_TOKENS", str(tmp_path / "nowhere"))

    code, [line] = whoami(TOKEN)

    assert code == 78
    assert "nowhere: cannot be read" in line


@pytest.mark.parametrize("words", [(), ("one-token-of-somebody", "two-token-of-somebody")])
def test_one_token_is_expected_and_a_second_one_is_not_shown(whoami, words):
    code, [line] = whoami(*words)

    assert code == 2
    assert "one TOKEN" in line
