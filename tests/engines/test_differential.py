"""OPA and the embedded engine answer alike: about every cell, and about what no sidecar would ever ask."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.engines.opa import OpaEngine
from sidecar.errors import DependencyError
from sidecar.rego.bundle import bundle
from sidecar.rego.compile import compiled as compile_
from tests.catalogs import a_catalog_at_random, rules_at_random
from tests.engines.documents import text_of
from tests.servers import opa_server
from tests.values import FAR_AWAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sidecar.catalog.catalog import Catalog
    from sidecar.decisions.ports import PolicyEngine

pytestmark = [pytest.mark.opa, pytest.mark.slow]

OUTAGE = "outage: "
SEED = 20_261
MALFORMED = 10_000
THREADS = 4
CATALOGS = 4
JUNK: list[Any] = [
    *(None, True, False, 0, 1, -1, 1.5, 10**30, 1e100),
    *("", " ", "null", "true", "é", "😀", '"', "\\", "\x00", "\n", "owner ", "OWNER", "__proto__"),
    *([], {}, [[]], [None], [""], {"": None}, {"roles": []}, {"features": {}}, ["owner"], {"owner": True}),
]
KEYS = [
    "action",
    "role",
    "plan",
    "status",
    "overrides",
    "room",
    "context",
    "features",
    "fits_in",
    "waiting_helps",
    "input",
]


@pytest.fixture(scope="module")
def words(compiled) -> list[str]:
    """All names of the catalog: what is likeliest to open a door in the wrong place."""
    catalog: Catalog = compiled.catalog
    named = (catalog.roles, catalog.features, catalog.meters, catalog.plans, catalog.actions)
    return sorted({name for names in named for name in names} | {"active", "suspended", "waiting_helps"})


def malformed(cells: list[bytes], words: list[str], *, seed: int, count: int) -> list[bytes]:
    """Cells, each with one to four things done to it; a few are no objects at all."""
    random = Random(seed)  # noqa: S311 - the same ones every time

    found: dict[bytes, None] = {}
    while len(found) < count:
        document = json.loads(random.choice(cells))
        for _ in range(random.randint(1, 4)):
            document = damaged(document, words, random)
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        if '"context"' in text and "\\" in text:
            continue  # the embedded engine refuses these: see its docstring, and test_embedded.py
        found.setdefault(text.encode())
    return list(found)


def damaged(document: Any, words: list[str], random: Random) -> Any:
    junk = random.choice(words) if random.random() < 0.4 else deepcopy(random.choice(JUNK))
    places = list(_places_in(document)) if isinstance(document, dict | list) else []
    if not places or random.random() < 0.01:
        return junk
    holder, key = random.choice(places)
    match random.randrange(5), holder:
        case 0, _:
            del holder[key]
        case 1, dict():
            holder[random.choice([*KEYS, *words])] = junk
        case 2, list():
            holder.insert(0, junk)
        case 3, dict():
            holder[random.choice([*KEYS, *words])] = holder.pop(key)
        case _:
            holder[key] = junk
    return document


def _places_in(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) at any depth."""
    for key in list(document) if isinstance(document, dict) else range(len(document)):
        yield document, key
        if isinstance(document[key], dict | list):
            yield from _places_in(document[key])


def answers(engine: PolicyEngine, situations: list[bytes]) -> list[str]:
    """The whole verdict about each as text, or which outage it was."""

    def text_about(situation: bytes) -> str:
        try:
            return text_of(engine.verdict(situation, deadline=FAR_AWAY))
        except DependencyError as error:
            return f"{OUTAGE}{error!r}"

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(text_about, situations))


def test_both_engines_answer_alike_about_every_cell(opa, embedded, all_cells):
    by_opa, by_embedded = answers(opa, all_cells), answers(embedded, all_cells)

    asked = zip(all_cells, by_opa, by_embedded, strict=True)
    assert [each for each in asked if each[1] != each[2] or each[1].startswith(OUTAGE)] == []


CUSTOM = """package custom

denials contains "zz_last_by_name" if input.context.country in {"XA", "XB"}

denials contains "embargo" if {
	input.context.country == "XA"
	input.action in {"recording.start", "platform.use"}
}

denials contains "first_by_name" if {
	input.context.country == "XB"
	input.role == "admin"
}
"""


@pytest.fixture(scope="module")
def with_rules_of_its_own(compiled):
    """The shipped policies with three more rules, and the context that they see."""
    decision = compiled.modules["authz/decision.rego"].replace("context: []", "context: [country]")
    modules = {**compiled.modules, "authz/decision.rego": decision, "custom/rules.rego": CUSTOM}
    return compile_(compiled.catalog, modules)


@pytest.mark.long
@pytest.mark.parametrize(
    ("country", "details"),
    [
        ("XA", {None, "embargo", "zz_last_by_name"}),
        ("XB", {None, "first_by_name", "recording_embargo", "zz_last_by_name"}),
        ("FR", {None}),
    ],
)
def test_both_engines_answer_alike_where_rules_of_ones_own_deny(
    with_rules_of_its_own, all_cells, country, details
):
    compiled = with_rules_of_its_own
    asked = [
        cell.replace(b'"overrides":', b'"context":{"country":"%s"},"overrides":' % country.encode())
        for cell in all_cells[::3]
    ]
    embedded = EmbeddedEngine(compiled.modules, compiled.data, revision=compiled.revision)
    with opa_server(bundle(compiled)) as url:
        by_opa = answers(OpaEngine(url, revision=compiled.revision), asked)
    by_embedded = answers(embedded, asked)

    assert [each for each in zip(asked, by_opa, by_embedded, strict=True) if each[1] != each[2]] == []
    assert [each for each in by_opa if each.startswith(OUTAGE)] == []
    assert {json.loads(each)["detail"] for each in by_opa} == details


@pytest.mark.long
def test_both_engines_offer_alike_in_catalogs_at_random_with_rules_of_ones_own(compiled):
    random = Random(SEED)  # noqa: S311 - the same ones every time
    offers = 0
    for _ in range(CATALOGS):
        catalog = a_catalog_at_random(random)
        custom = {"custom/rules.rego": rules_at_random(catalog, random)}
        own = compile_(catalog, {**compiled.modules, **custom})
        asked = [situation_bytes(cell) for cell in cells(catalog)]
        asked = random.sample(asked, min(len(asked), 150))
        embedded = EmbeddedEngine(own.modules, own.data, revision=own.revision)
        with opa_server(bundle(own)) as url:
            by_opa = answers(OpaEngine(url, revision=own.revision), asked)
        by_embedded = answers(embedded, asked)

        assert [each for each in zip(asked, by_opa, by_embedded, strict=True) if each[1] != each[2]] == []
        assert [each for each in by_opa if each.startswith(OUTAGE)] == []
        offers += sum(bool(json.loads(each)["upgrade"]) for each in by_opa)
    assert offers > 20


@pytest.mark.long
def test_both_engines_have_the_same_verdict_about_malformed_situations(opa, embedded, all_cells, words):
    situations = malformed(all_cells, words, seed=SEED, count=MALFORMED)
    by_opa, by_embedded = answers(opa, situations), answers(embedded, situations)

    asked = zip(situations, by_opa, by_embedded, strict=True)
    assert [each for each in asked if each[1] != each[2] or each[1].startswith(OUTAGE)] == []
    assert len(set(by_opa)) > 20  # it is not one denial of everything
