"""The shapes of plans.yaml as a JSON Schema: what an editor completes and underlines."""

from __future__ import annotations

import json
from typing import Any

from sidecar.catalog.sections import PLANS_FILE
from sidecar.catalog.shape import (
    MOST_ENTRIES,
    Anything,
    Either,
    Field,
    Flag,
    Line,
    ListOf,
    MapOf,
    Record,
    Reference,
    Shape,
    Whole,
    Words,
)

_Schema = dict[str, Any]


def schema_file() -> str:
    """Describes the structure of a file; only `sidecar check` validates that names exist."""
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "plans.yaml"}
    return json.dumps(head | _schema(PLANS_FILE), indent=2, ensure_ascii=False) + "\n"


def _schema(shape: Shape) -> _Schema:
    match shape:
        case Line(pattern=pattern, says=says):
            return {"type": "string", "pattern": f"^(?:{pattern})$", "description": says}
        case Words(words=words):
            return {"enum": [*words, *((True, False) if shape.switch else ())]}
        case Whole():
            return _whole(shape)
        case Flag() | Reference():
            return {"type": "boolean" if isinstance(shape, Flag) else "string"}
        case Anything():
            return {}
        case ListOf():
            return _list(shape)
        case MapOf():
            return _map(shape)
        case Either(record=record, other=other):
            return _any_of(other, record)
        case _:
            return _record(shape)


def _any_of(*shapes: Shape) -> _Schema:
    schemas = [_schema(shape) for shape in shapes]
    return {"anyOf": [one for each in schemas for one in each.get("anyOf", [each])]}


def _whole(shape: Whole) -> _Schema:
    if shape.among:
        return {"enum": list(shape.among)}
    number = {"type": "integer", "minimum": shape.low, "maximum": shape.high}
    return {"anyOf": [number, {"const": shape.word}]} if shape.word else number


def _list(shape: ListOf) -> _Schema:
    item = _schema(shape.item)
    items = {
        "type": "array",
        "items": item,
        "minItems": shape.least,
        "maxItems": MOST_ENTRIES,
        "uniqueItems": shape.unique,
    }
    return {"anyOf": [item, items]} if shape.or_one else items


def _map(shape: MapOf) -> _Schema:
    names = _schema(shape.key)
    if shape.reserved:
        names["not"] = {"enum": list(shape.reserved)}
    return {
        "type": "object",
        "propertyNames": names,
        "additionalProperties": _schema(shape.value),
        "minProperties": shape.least,
        "maxProperties": shape.most,
    }


def _record(shape: Record) -> _Schema:
    schema: _Schema = {
        "type": ["object", "null"] if shape.or_nothing else "object",
        "properties": {name: _field(field) for name, field in shape.fields.items()},
        "required": [name for name, field in shape.fields.items() if field.required],
        "additionalProperties": False,
        "minProperties": shape.least,
    }
    if shape.one_of:
        schema["allOf"] = [{"oneOf": [{"required": [name]} for name in group]} for group in shape.one_of]
    return schema


def _field(field: Field) -> _Schema:
    schema = _schema(field.shape)
    return schema | {"description": field.says} if field.says else schema
