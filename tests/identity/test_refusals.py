"""What the log may know of a token that was refused: why, and four of its claims."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode

import pytest

from sidecar.api.masking import Masks
from sidecar.errors import UnknownUser
from sidecar.text.encoding import encoded
from tests.identity.provider import AUDIENCE, ISSUER, bearer
from tests.identity.test_users import by_secret, identities, unsigned, user

NOW = int(time.time())  # of when this was imported: a whole run of the tests takes half an hour
_A_DAY_S = 24 * 3600


def refusal(header, known=None):
    with pytest.raises(UnknownUser) as caught:
        user(header, known)
    return caught.value


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "x"}, f"aud is [x], expected {AUDIENCE}"),
        ({"aud": ["x", "y"]}, f"aud is [x, y], expected {AUDIENCE}"),
        ({"aud": []}, f"aud is missing, expected {AUDIENCE}"),
        ({"aud": None}, f"aud is missing, expected {AUDIENCE}"),
        ({"iss": "https://other"}, f"iss is https://other, expected {ISSUER}"),
        ({"iss": None}, f"iss is missing, expected {ISSUER}"),
        ({"exp": 1_700_000_000}, "exp is 1700000000, and it is"),
        ({"exp": None}, "exp is missing"),
        ({"sub": None}, "sub is missing"),
        ({"sub": ""}, "sub must not be empty"),
        ({"nbf": NOW + _A_DAY_S}, "iat or nbf is still to come"),
        ({"iat": NOW + _A_DAY_S}, "iat or nbf is still to come"),
        ({"exp": NOW + 31 * _A_DAY_S}, "it is good for more than 30 days"),
        ({"exp": True}, "exp is no date"),
    ],
)
def test_a_claim_that_is_not_right_is_named_with_what_is_expected(claims, why):
    assert refusal(bearer(**claims)).detail.startswith(why)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (None, "there is no Authorization header"),
        ("", "there is no JWT in the Authorization header"),
        ("Bearer sct_0123456789", "there is no JWT in the Authorization header"),
        (unsigned("["), "its header is not JSON"),
        (unsigned({"alg": "none"}), "it is signed in no way that is taken"),
        (unsigned({"alg": "HS256"}, "["), "its claims are not JSON"),
        (unsigned({"alg": "HS256"}, "[]"), "its claims are no JSON object"),
        (unsigned({"alg": "HS256"}, {"exp": "soon"}), "exp is no date"),
        (bearer("another-secret-of-32-characters-or-more"), "no key that it may be signed by has signed it"),
    ],
    ids=lambda each: "header" if each is None or "." in each else each,  # a token is another one each time
)
def test_what_is_no_token_of_ours_says_why_and_shows_nothing_of_it(header, why):
    assert refusal(header).detail == why
    assert refusal(header, identities()).detail


def test_what_the_library_refuses_otherwise_is_named_by_its_error():
    assert refusal(bearer(headers={"crit": ["exp"]})).detail == (
        "it is no JWT that is taken (InvalidTokenError)"
    )


def test_of_a_token_there_are_four_claims_and_no_more_however_it_was_refused():
    more = {"email": "a@secret.example", "role": "r0le", "sid": "s1d", "app_metadata": {"a": "m3ta"}}

    for header in (
        bearer(aud="x", **more),
        bearer("another-secret-of-32-characters-or-more", **more),
        bearer(exp=NOW - 60, **more),
    ):
        refused = refusal(header)
        assert list(refused.unverified) == ["iss", "aud", "sub", "exp"]
        for secret in ("secret.example", "r0le", "s1d", "m3ta", *header.split(".")[1:]):
            assert secret not in f"{refused.detail} {refused.unverified}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("x" * 300, "x" * 200),
        (["x" * 300], f"[{'x' * 199}"),
        (["a"] * 300, f"[{'a, ' * 66}a"),
        (7, 7),
        (10**40, str(10**40)),
        (0.5, "0.5"),
        (True, "true"),
        (None, "null"),
        ({"a": "b" * 300}, f'{{"a": "{"b" * 193}'),
        ([["x"], {"a": 1}], '[[x], {"a": 1}]'),
        ("\u00fc\u0000\n", "\u00fc\u0000\n"),
    ],
)
@pytest.mark.parametrize("name", ["iss", "aud", "sub"])
def test_a_claim_is_shown_as_text_of_two_hundred_characters_at_most(name, value, shown):
    refused = refusal(unsigned({"alg": "HS256"}, {name: value}))

    assert refused.unverified == {name: shown}
    assert json.loads(encoded(refused.unverified)) == {name: shown}
    assert len(refused.detail) < 600


def test_half_of_a_surrogate_pair_can_be_logged():
    payload = urlsafe_b64encode(b'{"sub": "\\ud800", "iss": "\\udfff"}').rstrip(b"=").decode()
    head = unsigned({"alg": "HS256"}).split(".")[0]

    assert encoded(refusal(f"{head}.{payload}.AAAA").unverified)


def test_the_sub_is_masked_like_any_user():
    masks = Masks({"user"}, key=b"k" * 16)

    line = json.loads(masks.document(encoded({"why": "w", "unverified": {"sub": "adam", "iss": "i"}})))

    assert line["unverified"]["sub"] == json.loads(masks.text("user", "adam"))
    assert line["unverified"]["iss"] == "i"
    assert json.loads(masks.document(encoded({"unverified": {"iss": "i"}}))) == {"unverified": {"iss": "i"}}
    unmasked = Masks({"resource"}, key=b"k" * 16).document(encoded({"unverified": {"sub": "adam"}}))
    assert json.loads(unmasked) == {"unverified": {"sub": "adam"}}


def test_a_token_that_is_good_is_refused_by_nobody():
    assert by_secret().user(bearer(), deadline=float("inf")).id == "adam"
