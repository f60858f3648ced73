"""The token that facts come with: only the store that made it can read it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from sidecar.store.facts_token import FactsToken, token_in

TOKEN = FactsToken(version=7, periods={"minutes": "-infinity"}, until=None)


def test_a_token_of_this_store_is_read():
    assert token_in(TOKEN) is TOKEN


@pytest.mark.parametrize("token", [None, 7, "7", uuid4()], ids=lambda token: type(token).__name__)
def test_a_token_of_another_store_is_refused(token):
    with pytest.raises(TypeError, match=f"not from PostgreSQL: their token is a {type(token).__name__}"):
        token_in(token)
