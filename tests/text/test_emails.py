from __future__ import annotations

import pytest

from sidecar.text.emails import address_of, is_email


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mia@example.com", "Mia@Example.COM"),
        ("zoe\u0308@example.com", "zo\u00eb@example.com"),
    ],
)
def test_spellings_of_one_address_are_one_address(one, other):
    assert address_of(one) == address_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("mia@example.com", "m.ia@example.com"),
        ("straße@example.com", "strasse@example.com"),
        ("\u212aim@example.com", "kim@example.com"),  # the Kelvin sign, which NFC makes a K
        ("\u212bsa@example.com", "åsa@example.com"),  # the Ångström sign, which NFC makes an Å
        ("JOS\u00c9@example.com", "jos\u00e9@example.com"),
        ("\u0130@example.com", "i@example.com"),
        ("\ufb01@example.com", "fi@example.com"),
        ("\uff41@example.com", "a@example.com"),
    ],
)
def test_other_addresses_stay_different(one, other):
    assert address_of(one) != address_of(other)


@pytest.mark.parametrize("text", ["", "mia", "@", "mia@", "@example.com", "mia@a@b", "mia @example.com"])
def test_what_has_not_the_form_of_an_address_is_none(text):
    assert not is_email(text)


def test_an_address_is_something_an_at_sign_and_something():
    assert is_email("mia@example.com")
    assert is_email("zoë@büro")
