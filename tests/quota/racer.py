"""One of several processes that want the same quota: `python -m tests.quota.racer URL WORKSPACE SEED`.

It asks for keys k0 … k199 in an order of its own, and prints what it was told of each.
"""

from __future__ import annotations

import json
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from sidecar.rego.load import catalog_at
from tests.api.stage import PolicyInPython
from tests.quota.place import PLANS, Place, Rules

if TYPE_CHECKING:
    from tests.quota.place import Workspace

KEYS = 200
AT_A_TIME = 8
CONNECTIONS = 3


def amount_of(number: int) -> int:
    return 1 + number * 7919 % 7


def main(url: str, slug: str, seed: str) -> None:
    catalog = catalog_at(PLANS)
    policy = PolicyInPython(catalog)
    rules = Rules(catalog=catalog, policy=policy, revision=policy.revision)
    place = Place(url, rules, connections=CONNECTIONS)
    numbers = list(range(KEYS))
    random.Random(seed).shuffle(numbers)  # noqa: S311 - the same each time
    at = cast("Workspace", SimpleNamespace(slug=slug))

    def ask(number: int) -> tuple[int, str | None]:
        more: dict[str, Any] = {"amounts": {"minutes": amount_of(number)}, "idempotency_key": f"k{number}"}
        if number % 4 == 0:
            answer = place.ask("record", at, "reserve", **more)
            if answer.allowed:
                place.commit(answer.reservation.id)
        elif number % 4 == 1:
            answer = place.ask("host", at, **{**more, "amounts": {"daily": 1, **more["amounts"]}})
        else:
            answer = place.ask("record", at, **more)
        return number, answer.decision_id if answer.allowed else None

    sys.stdin.read()  # until all are there
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        told = dict(pool.map(ask, numbers))
    place.close()
    print(json.dumps(told))  # noqa: T201 - for who has started us


if __name__ == "__main__":
    main(*sys.argv[1:])
