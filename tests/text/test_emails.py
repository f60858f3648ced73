from __future__ import annotations

import pytest

from sidecar.text.emails import address_of, is_email


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mia@example.com", "Mia@Example.COM"),
        ("straße@example.com", "STRASSE@example.com"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
    ],
)
def test_spellings_of_one_address_are_one_address(one, other):
    assert address_of(one) == address_of(other)


def test_other_addresses_stay_different():
    assert address_of("mia@example.com") != address_of("m.ia@example.com")


@pytest.mark.parametrize("text", ["", "mia", "@", "mia@", "@example.com", "mia@a@b", "mia @example.com"])
def test_what_has_not_the_form_of_an_address_is_none(text):
    assert not is_email(text)


def test_an_address_is_something_an_at_sign_and_something():
    assert is_email("mia@example.com")
    assert is_email("zoë@büro")
