"""The JSON Schema for editors against the check that it is made with."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from sidecar.catalog.check import check_plans
from sidecar.catalog.schema import schema_file
from tests.catalog.files import ROOT, SHIPPED, SMALL

VALIDATOR = Draft7Validator(json.loads(schema_file()))
EXPRESSIBLE = {  # what a schema can say; the rest needs the whole file, or the text before YAML reads it
    "bad_limit",
    "bad_name",
    "bad_number",
    "bad_path",
    "bad_price",
    "bad_text",
    "bad_version",
    "bad_word",
    "conflicting_fields",
    "duplicate_item",
    "empty",
    "reserved_name",
    "too_many",
    "unknown_field",
    "wrong_type",
}


def editor_refuses(document):
    return not VALIDATOR.is_valid(document)


def readable_mistakes():
    """The mistakes that YAML's own rules let through, as an editor sees them."""
    unreadable = {
        "bad_key",
        "forbidden_character",
        "not_utf8",
        "several_documents",
        "yaml_syntax",
        "yaml_tag",
    }
    found = []
    for path in sorted((Path(__file__).parent / "mistakes").glob("*.yaml")):
        codes = {problem.code for problem in check_plans(path.read_bytes(), source=path.name).problems}
        if not codes & (unreadable | {"tab"}):
            found.append(pytest.param(yaml.safe_load(path.read_bytes()), codes, id=path.stem))
    return found


def test_the_committed_schema_is_the_generated_one():
    assert (ROOT / "plans.schema.json").read_text() == schema_file()


def test_it_is_a_schema():
    Draft7Validator.check_schema(json.loads(schema_file()))


def test_the_shipped_file_names_it_and_passes():
    text = SHIPPED.read_text()

    assert text.startswith("# yaml-language-server: $schema=plans.schema.json\n")
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


def test_the_smallest_catalog_passes():
    assert not editor_refuses(yaml.safe_load(SMALL))


@pytest.mark.parametrize(("document", "codes"), readable_mistakes())
def test_an_editor_underlines_what_a_schema_can_express(document, codes):
    assert editor_refuses(document) or not codes & EXPRESSIBLE


@pytest.mark.parametrize(("document", "codes"), readable_mistakes())
def test_an_editor_underlines_nothing_that_the_check_lets_through(document, codes):
    assert codes or not editor_refuses(document)


def test_every_field_says_what_it_is_for():
    bare = []

    def look_at(schema, path):
        for name, field in schema.get("properties", {}).items():
            if "description" not in field and "enum" not in field and "pattern" not in field:
                bare.append(f"{path}/{name}")
            look_at(field, f"{path}/{name}")
        for inner in (schema.get("additionalProperties"), schema.get("items")):
            if isinstance(inner, dict):
                look_at(inner, f"{path}/*")

    look_at(json.loads(schema_file()), "")

    assert [path for path in bare if not re.fullmatch(r"/(roles|plans)|/routes/\*/action", path)] == []
