"""What an administrator may have meant by a workspace that is not there."""

from __future__ import annotations

import pytest

from sidecar.store.similar import nearest_slug, slug_asked_for, spellings_near


@pytest.mark.parametrize(
    ("written", "slug"),
    [
        ("acmee", "acme"),
        ("acm", "acme"),
        ("amce", "acme"),
        ("acne", "acme"),
        ("ACME", "acme"),
        ("big corp", "big-corp"),
        ("big_corp", "big-corp"),
    ],
)
def test_a_spelling_that_differs_by_a_letter_is_near(written, slug):
    asked = slug_asked_for(written)

    assert asked is not None
    assert slug in spellings_near(asked)
    assert nearest_slug(asked, [slug]) == slug


@pytest.mark.parametrize("written", ["", "x" * 100, "ä", "  "])
def test_what_is_nearly_no_slug_is_not_looked_for(written):
    assert slug_asked_for(written) is None
