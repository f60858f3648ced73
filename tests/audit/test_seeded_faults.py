"""Whoever breaks a rule or a table entry is told: each of hundreds of small faults is caught by some test.

Some of each kind are tried, and others after each change of a rule or the catalog; SEEDED=all tries all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections import Counter
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import pytest

from sidecar.decisions.cells import cells
from sidecar.decisions.model import Situation
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.embedded import EmbeddedEngine
from sidecar.errors import ConfigError, DependencyError
from sidecar.rego.compile import policy_data
from sidecar.rego.load import compiled_at
from sidecar.settings import shipped
from tests.audit.faults import faults
from tests.audit.reference import verdict_about
from tests.servers import opa
from tests.values import FAR_AWAY

if TYPE_CHECKING:
    from pathlib import Path

    from sidecar.decisions.model import Verdict
    from tests.audit.faults import Fault

POLICIES = shipped("policies")
COMPILED = compiled_at(shipped("plans.yaml"), POLICIES)
SEED = 20_261
MOST_CELLS = 60  # besides those that a fault names: what they do not show, the tests in Rego do
MOST_CATCHING = 8
ONE_IN = 10  # of each kind
ALL = os.environ.get("SEEDED") == "all"
# Changes that change no verdict at all, each with the reason why: they are no faults.
HARMLESS = {
    r"authz/decision.rego:\d+: count\(denials\) > 0 — the line removed": (
        "where nobody denies there is no first reason, so this verdict is undefined anyhow: said for readers"
    ),
    r"plans/actions/[^/]+/while_suspended — removed": "what is missing opens no door: as good as false",
    r"plans/actions/[^/]+/roles — in another order": "all may, so nobody is ever told which roles",
    r"plans/plans/starter/price — removed": "all other plans are dearer than this one anyhow",
    r"plans/plans/team/price — the dearest": "it is the dearest already",
    r"plans/(features|meters)(/\d+)? — removed": "no rule looks at these two lists: they are for readers",
}


def some_of_each_kind(seeded: list[Fault]) -> list[Fault]:
    """The same for the same rules and catalog."""
    kinds: dict[str, list[Fault]] = {}
    for fault in seeded:
        kinds.setdefault(kind_of(fault.what), []).append(fault)
    random = Random(COMPILED.revision)  # noqa: S311 - to choose by
    return [fault for each in kinds.values() for fault in random.sample(each, -(-len(each) // ONE_IN))]


def kind_of(what: str) -> str:
    """`authz/denials.rego: turned`, `plans/actions: removed`."""
    place, _, done = what.rpartition(" — ")
    return f"{'/'.join(place.partition(':')[0].split('/')[:2])}: {done.split()[-1]}"


class Known(NamedTuple):
    cell: Situation
    asked: bytes
    wanted: Verdict


def who_catches(fault: Fault, all_cells: Cells, folder: Path) -> str | None:
    if not all_cells.decide_as_before(fault):
        return "a cell of the catalog"
    of_policies = fault.modules is not COMPILED.modules  # the tests in Rego have plans of their own
    if of_policies and not passes_the_tests_in_rego(fault, folder):
        return "a test in Rego"
    return None if offers_nothing_against_a_rule_of_ones_own(fault) else "a rule of one's own"


class Cells:
    """What is known of the cells; those that caught a fault are asked first about the next."""

    def __init__(self, known: list[Known]) -> None:
        self._known = known
        self._catching: list[Known] = []

    def decide_as_before(self, fault: Fault) -> bool:
        data = json.dumps({"authz": {"plans": fault.plans}}).encode()
        named = [each for each in self._known if {each.cell.action, each.cell.plan} & fault.names]
        try:
            engine = EmbeddedEngine(fault.modules, data, revision=COMPILED.revision)
        except ConfigError:
            return False
        for each in (*self._catching, *named, *self._known[:MOST_CELLS]):
            try:
                decides = engine.verdict(each.asked, deadline=FAR_AWAY) == each.wanted
            except DependencyError:
                decides = False
            if not decides:
                self._catching = [each, *(other for other in self._catching if other is not each)]
                del self._catching[MOST_CATCHING:]
                return False
        return True


def passes_the_tests_in_rego(fault: Fault, folder: Path) -> bool:
    """First those beside the file that has the fault, which find most: a test takes longer than a cell."""
    for path, text in fault.modules.items():
        (folder / path).write_text(text)
    changed = next(path for path, text in fault.modules.items() if text != COMPILED.modules[path])
    beside = (folder / changed.replace(".rego", "_test.rego")).read_text()
    names = "|".join(re.findall(r"^test_\w+", beside, re.MULTILINE))
    return all(opa("test", *options, folder).returncode == 0 for options in (("--run", rf"\.({names})$"), ()))


def offers_nothing_against_a_rule_of_ones_own(fault: Fault) -> bool:
    """No test in Rego can have a rule of the company's own that says something else about each plan."""
    rule = 'package custom\n\ndenials contains "own" if input.plan == "starter"\n'
    asked = situation_bytes(Situation(action="platform.use", role="member", plan="starter", status="active"))
    data = json.dumps({"authz": {"plans": fault.plans}}).encode()
    engine = EmbeddedEngine({**fault.modules, "custom/own.rego": rule}, data, revision=COMPILED.revision)
    try:
        return engine.verdict(asked, deadline=FAR_AWAY).status == HTTPStatus.FORBIDDEN
    except DependencyError:  # it offers something for a reason that has no offers
        return False


@pytest.fixture(scope="module")
def seeded() -> list[Fault]:
    return list(faults(COMPILED.modules, policy_data(COMPILED.catalog, revision=COMPILED.revision)))


@pytest.mark.long
@pytest.mark.opa
@pytest.mark.slow
def test_every_seeded_fault_is_caught(seeded, tmp_path, capsys):
    folder = tmp_path / "policies"
    shutil.copytree(POLICIES, folder)
    catalog, revision = COMPILED.catalog, COMPILED.revision
    known = [
        Known(cell, situation_bytes(cell), verdict_about(cell, catalog=catalog, revision=revision))
        for cell in cells(catalog)
    ]
    Random(SEED).shuffle(known)  # noqa: S311 - the same order every time

    all_cells = Cells(known)

    tried = seeded if ALL else some_of_each_kind(seeded)
    by = {fault.what: who_catches(fault, all_cells, folder) for fault in tried}

    caught = Counter(who for who in by.values() if who)
    missed = {what: reason_why_harmless(what) for what, who in by.items() if who is None}
    faulty = len(by) - len([reason for reason in missed.values() if reason])
    with capsys.disabled():
        shares = ", ".join(f"{count} by {who}" for who, count in caught.most_common())
        score = f"{caught.total()} of {faulty} seeded faults caught, of {len(seeded)}: {shares}"
        sys.stdout.write(f"\n{score}; {len(by) - faulty} more changes change no verdict\n")
    assert [what for what, reason in missed.items() if reason is None] == []
    assert set(missed.values()) <= set(HARMLESS.values())
    assert not ALL or set(missed.values()) == set(HARMLESS.values())


def reason_why_harmless(what: str) -> str | None:
    return next((reason for pattern, reason in HARMLESS.items() if re.fullmatch(pattern, what)), None)


def test_each_fault_is_another_one(seeded):
    kinds = Counter(re.sub(r".* — (\S+ )*?(\S+)$", r"\2", fault.what) for fault in seeded)

    assert len({fault.what for fault in seeded}) == len(seeded)
    assert len({(*fault.modules.values(), json.dumps(fault.plans)) for fault in seeded}) == len(seeded)
    assert {"removed", "turned", "flipped", "lost", "moved"} <= set(kinds)


def test_every_rule_is_removed_once(seeded):
    removed = [fault.what for fault in seeded if fault.what.endswith("the rule removed")]
    rules = re.findall(r"^(?!package)[a-z_]+.*$", "\n".join(COMPILED.modules.values()), re.MULTILINE)

    assert [what.split(": ", 1)[1].removesuffix(" — the rule removed") for what in removed] == rules


def test_every_comparison_is_turned(seeded):
    turned = [fault.what for fault in seeded if fault.what.endswith("turned")]
    code = re.sub(r"#.*", "", "\n".join(COMPILED.modules.values()))
    ins = len(re.findall(r" in ", code)) - len(re.findall(r"\b(?:some|every) [\w, ]+ in ", code))

    assert len(turned) == len(re.findall(r" (?:==|!=|<|>|<=|>=) ", code)) + ins
