"""The schema of `input`, which `opa check` and readers go by, says what a situation is and nothing else."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.model import Situation
from sidecar.decisions.situation import input_document
from sidecar.settings import shipped
from tests.values import the_catalog

INPUT = json.loads((shipped("schemas") / "input.json").read_text())


def documents() -> list[dict[str, Any]]:
    seen = Situation(action="a", role="r", plan="p", status="active", context={"country": "XA"})
    return [input_document(each) for each in (seen, *cells(the_catalog()))]


def test_every_situation_is_what_the_schema_says():
    validator = jsonschema.Draft7Validator(INPUT)

    assert [document for document in documents() if not validator.is_valid(document)] == []


def test_the_schema_says_no_more_than_there_is():
    seen = documents()
    rooms = [document["room"] for document in seen if document["room"] is not None]

    assert set(INPUT["properties"]) == {field for document in seen for field in document}
    assert set(INPUT["required"]) == set(INPUT["properties"]) - {"context"}
    for declared, there in (
        (INPUT["properties"]["overrides"], [document["overrides"] for document in seen]),
        (INPUT["properties"]["room"]["anyOf"][0], rooms),
    ):
        assert (
            set(declared["properties"])
            == set(declared["required"])
            == {key for each in there for key in each}
        )


@pytest.mark.parametrize(
    "change",
    [
        {"user": "adam"},
        {"role": 1},
        {"status": "paused"},
        {"overrides": {"features": {"sso": "true"}}},
        {"overrides": {"features": {"sso": True, "api": False}}},
        {"overrides": {}},
        {"room": {"fits_in": ["pro"]}},
        {"room": {"fits_in": [1], "waiting_helps": True}},
        {"room": {"fits_in": "pro", "waiting_helps": True}},
        {"room": {"fits_in": [], "waiting_helps": "true"}},
        {"room": {"fits_in": [], "waiting_helps": True, "used": 97}},
        {"room": {}},
        {"room": False},
        {"context": {}},
    ],
)
def test_whatever_is_no_situation_is_not_of_the_schema(change):
    document = input_document(Situation(action="a", role="r", plan="p", status="active")) | change

    assert not jsonschema.Draft7Validator(INPUT).is_valid(document)
