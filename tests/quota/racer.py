"""One of several processes that want the same quota: `python -m tests.quota.racer URL WORKSPACE SEED`.

It asks for keys k0 … k199 in an order of its own, and prints what it was told of each.
"""

from __future__ import annotations

import json
import random
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from sidecar.rego.load import catalog_at
from tests.api.stage import PolicyInPython
from tests.quota.place import PLANS, Place, Rules

if TYPE_CHECKING:
    from tests.quota.place import Workspace

KEYS = 200


def amount_of(number: int) -> int:
    return 1 + number * 7919 % 7


def main(url: str, slug: str, seed: str) -> None:
    catalog = catalog_at(PLANS)
    policy = PolicyInPython(catalog)
    place = Place(url, Rules(catalog=catalog, policy=policy, revision=policy.revision), connections=1)
    numbers = list(range(KEYS))
    random.Random(seed).shuffle(numbers)  # noqa: S311 - the same each time
    told = {}
    at = cast("Workspace", SimpleNamespace(slug=slug))
    sys.stdin.read()  # until all are there
    for number in numbers:
        answer = place.ask("record", at, amounts={"minutes": amount_of(number)}, idempotency_key=f"k{number}")
        told[number] = answer.decision_id if answer.allowed else None
    place.close()
    print(json.dumps(told))  # noqa: T201 - for who has started us


if __name__ == "__main__":
    main(*sys.argv[1:])
