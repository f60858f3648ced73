"""Whom a token makes its bearer, and whom none does."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from time import monotonic

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sidecar.errors import ClockSkew, ConfigError, UnknownUser
from sidecar.identity.users import FixedKeys, Identities, identities_of, key_set_in, key_set_of_secret
from sidecar.settings import Settings
from tests.identity.provider import AUDIENCE, ISSUER, PRIVATE, SECRET, a_jwk, a_set, a_token, bearer, signed
from tests.values import FAR_AWAY

NOW = int(time.time())
ALL = a_set(*(a_jwk(algorithm, algorithm) for algorithm in PRIVATE))


def identities(raw=ALL, **more):
    return Identities(FixedKeys(key_set_in(raw)), **{"audience": AUDIENCE, "issuer": ISSUER} | more)


def by_secret(**more):
    keys = FixedKeys(key_set_of_secret(SECRET.encode()))
    return Identities(keys, **{"audience": AUDIENCE, "issuer": ISSUER} | more)


def user(header, known=None):
    return (known or by_secret()).user(header, deadline=FAR_AWAY)


def refused(header, known=None):
    with pytest.raises(UnknownUser) as caught:
        user(header, known)
    assert caught.value.detail
    assert caught.value.problems == ()
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    return True


def unsigned(header: object, claims: object = "{}") -> str:
    def part(value):
        text = value if isinstance(value, str) else json.dumps(value)
        return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    return f"Bearer {part(header)}.{part(claims)}.AAAA"


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_a_token_by_each_kind_of_key_is_known(algorithm):
    known = user(signed(algorithm, algorithm), identities())

    assert (known.id, known.email, known.email_verified) == ("adam", "adam@example.com", True)
    assert known.claims["iss"] == ISSUER


def test_a_secret_knows_its_tokens_whatever_they_call_it():
    assert user(bearer()).id == "adam"
    assert user(bearer(headers={"kid": "legacy"})).id == "adam"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "Bearer a.b",
        "Bearer a.b.c.d",
        "Bearer ..",
        "Bearer a.b.",
        "Bearer \u00e4.b.c",
        f"Bearer  {a_token()} ",
        f"{a_token()}",
        f"Bearer {a_token()}, Bearer {a_token()}",
        "Bearer sct_0123456789",
        unsigned("["),
        unsigned("[]"),
        unsigned("1"),
        unsigned("{}"),
        unsigned("[" * 3_000),
        unsigned({"alg": None}),
        unsigned({"alg": "none"}),
        unsigned({"alg": "NONE"}, {"sub": "adam"}),
        unsigned({"alg": ["HS256"]}),
        unsigned({"alg": "HS256"}),
        unsigned({"alg": "HS256", "crit": ["exp"], "exp": 1}),
        unsigned({"alg": "RS256", "kid": 7}),
        unsigned({"alg": "RS256", "kid": None}),
        unsigned({"alg": "RS256", "kid": "x" * 2_000}),
        unsigned({"alg": "RS256", "jwk": {"kty": "oct"}, "jku": "https://evil.example.com"}),
    ],
)
def test_what_is_no_token_of_ours_is_nobody(header):
    assert refused(header)
    assert refused(header, identities())


def test_the_scheme_is_of_any_case():
    assert user(f"bearer {a_token()}").id == user(f"BEARER   {a_token()}").id == "adam"


def test_a_key_is_good_for_its_own_algorithm_alone():
    public = PRIVATE["RS256"].public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    claims = {"sub": "eve", "exp": NOW + 9_999, "aud": AUDIENCE, "iss": ISSUER}

    for secret in (pem, pem.strip(), a_jwk("RS256")["n"].encode(), b""):
        content = unsigned({"alg": "HS256", "kid": "RS256"}, claims).removesuffix(".AAAA")
        signature = hmac.digest(secret, content.removeprefix("Bearer ").encode(), "sha256")
        assert refused(f"{content}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}", identities())
    for algorithm in ("RS384", "RS512", "PS256"):
        assert refused(bearer(PRIVATE["RS256"], algorithm, headers={"kid": "RS256"}), identities())


def test_a_key_of_another_name_is_not_tried():
    assert refused(signed("ES256", "RS256"), identities())
    assert refused(signed("ES256", "two"), identities())


def test_a_key_that_is_not_the_providers_knows_nobody():
    assert refused(
        bearer(ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "ES256"}), identities()
    )
    assert refused(bearer("another-secret-of-32-characters-or-more"))


OTHER = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("one",), None),
        ((None,), None),
        (("one", "two"), None),
        ((None, None), None),
        ((None, None), "one"),
        (("one", "one"), "one"),
        ((None, "one"), "one"),
        ((None, "one"), "two"),
    ],
)
def test_keys_that_may_have_signed_a_token_are_tried_in_turn(names, named):
    """Those of its name and those without one; of a token that names none, all."""
    for keys in ([None, OTHER][: len(names)], [OTHER, None][-len(names) :]):
        ours = keys.index(None)
        if named is not None and names[ours] not in {None, named}:
            continue
        jwks = [a_jwk("ES256", name, key=key) for name, key in zip(names, keys, strict=True)]
        known = identities(a_set(a_jwk("RS256", "other"), *jwks))

        assert user(signed("ES256", named), known).id == "adam"
        stranger = ec.generate_private_key(ec.SECP256R1())
        assert refused(bearer(stranger, "ES256", headers={"kid": named} if named else None), known)


def test_no_more_than_a_few_keys_are_tried():
    names = [None] * 40
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in names]
    known = identities(a_set(*(a_jwk("ES256", None, key=key) for key in keys)))

    assert user(bearer(keys[0], "ES256"), known).id == "adam"
    assert refused(bearer(keys[-1], "ES256"), known)


HUGE = 10**400
NOT_HELD: dict[str, dict[str, object]] = {
    "a date of 400 digits": {"exp": HUGE},
    "a date below": {"exp": -HUGE},
    "an issue of 400 digits": {"iat": HUGE},
    "an issue below": {"iat": -HUGE},
    "a beginning of 400 digits": {"nbf": -HUGE},
    "a date after year 9999": {"exp": 10**12},
    "a date before 1970": {"nbf": -1},
    "true": {"exp": True},
    "null": {"exp": "null"},
    "text": {"exp": "9999999999"},
}


@pytest.mark.parametrize("name", NOT_HELD)
def test_a_date_that_nobody_can_hold_is_nobodys(name):
    claims = {"sub": "adam", "aud": AUDIENCE, "iss": ISSUER, "exp": NOW + 99} | NOT_HELD[name]
    text = json.dumps(claims).replace('"null"', "null")
    token = jwt.api_jws.encode(text.encode(), SECRET, "HS256")

    assert refused(f"Bearer {token}")


@pytest.mark.parametrize(
    "more",
    [
        '"x": ' + "[" * 987 + "]" * 987,
        '"x": ' + '{"x":' * 987 + "1" + "}" * 987,
        '"x": ' + "[" * 9_000,
        '"x": 1e400',
        '"x": -Infinity',
        '"x": ' + "9" * 5_000,
        '"exp": 1e400',
        '"exp": 1' + "0" * 400 + ".5",
    ],
    ids=lambda more: more[:20],
)
def test_claims_that_nobody_can_hold_are_nobodys(more):
    text = f'{{"sub": "adam", "aud": "{AUDIENCE}", "iss": "{ISSUER}", "exp": {NOW + 99}, {more}}}'
    token = jwt.api_jws.encode(text.encode(), SECRET, "HS256")

    assert refused(f"Bearer {token}")


@pytest.mark.parametrize("levels", [50, 987, 995, 1_500])
def test_a_header_of_many_levels_is_nobodys_at_whatever_depth_it_is_read(levels):
    def deep(frames):
        return deep(frames - 1) if frames else refused(unsigned(text))

    text = '{"alg": "HS256", "x": ' + "[" * levels + "]" * levels + "}"
    assert all(deep(frames) for frames in (0, 20, 60))


def test_a_set_with_keys_that_cannot_be_made_is_read_for_the_others():
    odd = [
        a_jwk("RS256", "a") | {"n": 7},
        a_jwk("RS256", "b") | {"n": "AQ", "e": "AQ"},
        a_jwk("RS256", "c") | {"e": "\ud800"},
        a_jwk("ES256", "d") | {"x": "AQ"},
        a_jwk("ES256", "e") | {"x": "A" * 43},
        a_jwk("EdDSA", "f") | {"x": None},
        a_jwk("EdDSA", "g") | {"x": []},
        a_jwk("ES256", "h") | {"crv": {}},
    ]

    assert user(signed("ES256", "good"), identities(a_set(*odd, a_jwk("ES256", "good")))).id == "adam"


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": NOW - 11},
        {"exp": "soon"},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"exp": {}},
        {"iss": None},
        {"iss": ISSUER + "/"},
        {"iss": "https://evil.example.com"},
        {"aud": None},
        {"aud": "anon"},
        {"aud": []},
        {"aud": ["anon", "service"]},
        {"aud": {"authenticated": True}},
        {"nbf": NOW + 9_999},
        {"iat": NOW + 9_999},
        {"nbf": "later"},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 257},
        {"sub": "a\0b"},
        {"sub": "\ud800"},
    ],
)
def test_a_claim_that_is_not_right_is_nobodys(claims):
    assert refused(bearer(**claims))
    assert refused(signed("ES256", "ES256", **claims), identities())


def test_a_subject_is_text():
    claims = {"exp": NOW + 9_999, "aud": AUDIENCE, "iss": ISSUER, "sub": 7}
    token = jwt.api_jws.encode(json.dumps(claims).encode(), SECRET, "HS256")

    assert refused(f"Bearer {token}")


@pytest.mark.parametrize(("claim", "seconds"), [("exp", -5), ("nbf", 5), ("iat", 5)])
def test_clocks_may_differ_by_some_seconds(claim, seconds):
    assert user(bearer(**{claim: int(time.time()) + seconds})).id == "adam"


def test_one_audience_of_several_is_enough():
    assert user(bearer(aud=["anon", AUDIENCE])).id == "adam"


@pytest.mark.parametrize("sub", ["auth0|123", "x" * 256, "a/b", "Ünï ☃", "' OR 1=1 --"])
def test_a_subject_is_taken_as_it_stands(sub):
    assert user(bearer(sub=sub)).id == sub


@pytest.mark.parametrize(
    ("claims", "in_production", "in_dev"),
    [
        ({"email_verified": True}, True, True),
        ({"email_verified": False}, False, False),
        ({"email_verified": None}, False, True),
        ({"email_verified": "true"}, False, False),
        ({"email_verified": 1}, False, False),
        ({"email_verified": None, "app_metadata": {"email_verified": True}}, True, True),
        ({"email_verified": None, "app_metadata": {"email_verified": False}}, False, False),
        ({"email_verified": False, "app_metadata": {"email_verified": True}}, False, False),
        ({"email_verified": None, "app_metadata": "x"}, False, True),
        ({"email_verified": None, "amr": [{"method": "password"}, {"method": "otp"}]}, True, True),
        ({"email_verified": None, "amr": [{"method": "magiclink", "timestamp": 1}]}, True, True),
        ({"email_verified": None, "amr": [{"method": "oauth"}]}, True, True),
        ({"email_verified": None, "amr": [{"method": "password"}, {"method": "totp"}]}, False, True),
        ({"email_verified": None, "amr": [{"method": ["otp"]}, {}, 7]}, False, True),
        ({"email_verified": None, "amr": ["otp"]}, False, True),  # as RFC 8176 has it: a device
        ({"email_verified": None, "amr": {"method": "otp"}}, False, True),
        ({"email_verified": False, "amr": [{"method": "otp"}]}, False, False),
        ({"email_verified": None, "user_metadata": {"email_verified": True}}, False, True),
        ({"email_verified": None, "user_metadata": {"email_verified": False}}, False, True),
        ({"email_verified": True, "user_metadata": {"email_verified": False}}, True, True),
        ({"email_verified": False, "user_metadata": {"email_verified": True}}, False, False),
    ],
)
def test_an_email_is_verified_when_the_provider_says_so_and_never_by_what_users_write(
    claims, in_production, in_dev
):
    assert user(bearer(**claims)).email_verified is in_production
    assert user(bearer(**claims), by_secret(trusts_unsaid=True)).email_verified is in_dev


@pytest.mark.parametrize(
    ("claims", "verified"),
    [
        ({"https://shop.example.com/mail_ok": True}, True),
        ({"app_metadata": {"https://shop.example.com/mail_ok": True}}, True),
        ({"user_metadata": {"https://shop.example.com/mail_ok": True}}, False),
        ({"https://shop.example.com/mail_ok": False, "email_verified": True}, False),
        ({"email_verified": True}, True),
        ({}, False),
    ],
)
def test_a_setting_names_another_claim_that_proves_an_email(tmp_path, claims, verified):
    chosen = settings(tmp_path, SECRET.encode(), "hs256:", jwt_email_claim="https://shop.example.com/mail_ok")
    known = identities_of(chosen)

    assert user(bearer(**{"email_verified": None} | claims), known).email_verified is verified


MONTH_S = 30 * 24 * 3_600


@pytest.mark.parametrize(
    ("claims", "too_long"),
    [
        ({"iat": NOW - 60, "exp": NOW - 60 + MONTH_S}, False),
        ({"iat": NOW - 60, "exp": NOW - 59 + MONTH_S}, True),
        ({"iat": NOW - MONTH_S, "exp": NOW + 3_600}, True),  # although it ends soon
        ({"iat": None, "exp": NOW + MONTH_S - 60}, False),
        ({"iat": None, "exp": NOW + MONTH_S + 3_600}, True),
        ({"iat": None, "exp": 10**400}, True),
    ],
)
def test_no_token_lives_longer_than_a_deleted_users_tombstone(claims, too_long):
    if too_long:
        assert refused(bearer(**claims))
    else:
        assert user(bearer(**claims)).id == "adam"


@pytest.mark.parametrize("email", [None, "", 7, "x" * 400, "a\0@b"])
def test_what_is_no_email_is_not_verified(email):
    known = user(bearer(email=email))

    assert (known.email, known.email_verified) == (None, False)


def test_in_dev_any_issuer_will_do_and_none():
    assert user(bearer(iss=None), by_secret(issuer=None)).id == "adam"
    assert user(bearer(iss="me"), by_secret(issuer=None)).id == "adam"


def test_who_was_known_a_moment_ago_is_known_until_their_token_ends(monkeypatch):
    known = by_secret()
    header = bearer(exp=int(time.time()) + 20)
    assert user(header, known) is user(header, known)
    began = monotonic()

    monkeypatch.setattr("sidecar.identity.users.time.monotonic", lambda: began + 21)
    monkeypatch.setattr("sidecar.identity.users.time.time", lambda: time.time_ns() / 1e9 + 21)
    assert user(header, known).id == "adam"  # verified anew: within the skew

    with monkeypatch.context() as clock:
        clock.setattr("jwt.api_jwt.datetime", _Later)
        assert refused(header, known)


class _Later:
    @staticmethod
    def now(tz):
        return datetime.now(tz) + timedelta(seconds=60)


def test_a_token_that_was_verified_is_remembered_no_longer_than_its_key(monkeypatch):
    source = FixedKeys(key_set_in(ALL))
    known = Identities(source, audience=AUDIENCE, issuer=ISSUER)
    header = signed("ES256", "ES256")
    assert user(header, known).id == "adam"

    monkeypatch.setattr(source, "_keys", key_set_in(a_set(a_jwk("RS256", "RS256"))))

    assert refused(header, known)


def test_many_tokens_are_not_remembered_for_ever(monkeypatch):
    monkeypatch.setattr("sidecar.identity.users._MOST_REMEMBERED", 3)
    known = by_secret()
    headers = [bearer(sub=f"user-{number}") for number in range(4)]

    first, *_, last = [user(header, known) for header in headers]

    assert user(headers[-1], known) is last
    assert user(headers[0], known) is not first


@pytest.mark.parametrize(
    "unfit",
    [
        a_jwk("RS256", key=rsa.generate_private_key(65_537, 1_024)),  # noqa: S505 - that is the point
        a_jwk(use="enc"),
        a_jwk(key_ops=["sign"]),
        a_jwk(key_ops=7),
        a_jwk(alg="ES512"),
        a_jwk("RS256", alg="RSA-OAEP"),
        a_jwk() | {"kid": 7},
        a_jwk(x="?"),
        a_jwk(crv="P-521"),
        a_jwk(crv=["P-256"]),
        a_jwk(d="AAAA"),
        {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTMy", "kid": "one"},
        {"kty": "RSA"},
        {},
        "key",
        None,
    ],
)
def test_a_key_that_is_not_for_us_is_passed_over(unfit):
    keys = key_set_in(a_set(unfit, a_jwk("EdDSA", "two")))

    assert list(keys) == [("two", "EdDSA")]


def settings(tmp_path, content, prefix="", **more):
    path = tmp_path / "keys"
    path.write_bytes(content)
    chosen = {"jwt_keys": f"{prefix}{path}", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE} | more
    return Settings(database_url="postgresql://", **chosen)


def test_keys_come_from_a_file(tmp_path):
    known = identities_of(settings(tmp_path, ALL))

    assert known
    assert user(signed("RS256", "RS256"), known).id == "adam"


def test_a_secret_comes_from_a_file_without_its_last_newline(tmp_path):
    known = identities_of(settings(tmp_path, f"{SECRET}\n".encode(), "hs256:"))

    assert known
    assert user(bearer(), known).id == "adam"
    assert refused(bearer(iss=None), known)
    assert not user(bearer(email_verified=None), known).email_verified


def test_settings_without_an_issuer_are_those_of_dev(tmp_path):
    known = identities_of(settings(tmp_path, SECRET.encode(), "hs256:", jwt_issuer=None))

    assert known
    assert user(bearer(iss=None, email_verified=None), known).email_verified


def test_without_keys_there_are_no_users():
    assert identities_of(Settings(database_url="postgresql://")) is None


@pytest.mark.parametrize(
    ("content", "prefix", "says"),
    [
        (b"too-short", "hs256:", "the secret must be 32 bytes or more"),
        (b"", "hs256:", "the secret must be 32 bytes or more"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "hs256:", "not a secret"),
        (b"", "", "not JSON"),
        (b"[]", "", "has no list of keys"),
        (b'{"keys": {}}', "", "has no list of keys"),
        (b'{"keys": []}', "", "no key for RS256"),
        (b"[" * 100_000, "", "not JSON"),
        (b"\xff", "", "not JSON"),
    ],
)
def test_a_file_that_is_not_right_says_what_is_wrong_and_nothing_of_what_is_in_it(
    tmp_path, content, prefix, says
):
    with pytest.raises(ConfigError) as caught:
        identities_of(settings(tmp_path, content, prefix))

    [problem] = caught.value.problems
    assert problem.pointer == "SIDECAR_JWT_KEYS"
    assert says in problem.detail
    assert "too-short" not in problem.detail


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError) as caught:
        identities_of(settings(tmp_path, b"", jwt_keys="/nowhere/keys"))

    assert caught.value.problems[0].detail == "/nowhere/keys cannot be read: No such file or directory"


class TheOtherClock:
    def __init__(self, skew_s):
        self.skew_s = skew_s

    def skewed(self, said):
        return ClockSkew(said)


@pytest.mark.parametrize("skew_s", [None, -9.0, 9.0, -600.0, 600.0, -7_200.0, 7_200.0])
@pytest.mark.parametrize(
    "from_now",
    [
        {"iat": 0, "exp": 300},
        {"iat": 0, "nbf": 300, "exp": 30_000},
        {"iat": -20_000, "exp": -300},
        {"iat": -20_000, "exp": 20_000},
        {"iat": -30_000, "exp": -20_000},
        {"exp": 300},
    ],
)
def test_a_token_that_is_good_by_one_of_two_clocks_alone_is_neither_taken_nor_refused(from_now, skew_s):
    now = int(time.time())
    claims = {name: now + seconds for name, seconds in from_now.items()}

    def is_good(at):
        return max(claims.get("iat", 0), claims.get("nbf", 0)) <= at < claims["exp"]

    known = by_secret()
    known.compare_with(TheOtherClock(skew_s))
    header = bearer(**{"iat": None} | claims)
    here, there = is_good(now), is_good(now + (skew_s or 0.0))
    if abs(skew_s or 0.0) > 10 and here != there:
        with pytest.raises(ClockSkew):
            user(header, known)
    elif here:
        assert user(header, known).id == "adam"
    else:
        assert refused(header, known)
