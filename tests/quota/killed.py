"""Workers that are killed: `python -m tests.quota.killed URL WORKSPACE`.

Each takes quota under a few keys of its own at once and is ended by kill -9 at some moment of that; whoever
asked it then asks again with the same keys. Prints how many had been taken before, and how many had not.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from functools import partial
from time import sleep
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from sidecar.rego.load import catalog_at
from tests.api.stage import PolicyInPython
from tests.quota.place import PLANS, Place, Rules, together

if TYPE_CHECKING:
    from tests.quota.place import Workspace

ROUNDS = 100
AT_ONCE = 4
SHORTEST_S = 0.000_2


def main(url: str, slug: str) -> None:
    catalog = catalog_at(PLANS)
    policy = PolicyInPython(catalog)
    rules = Rules(catalog=catalog, policy=policy, revision=policy.revision)
    at = cast("Workspace", SimpleNamespace(slug=slug))
    chance = random.Random(9)  # noqa: S311 - the same each time
    own = Place(url, rules, connections=1)
    taken = 0
    for number in range(ROUNDS):
        begins, tells = os.pipe()
        worker = os.fork()
        if not worker:
            place = Place(url, rules, connections=2)
            place.ask("look", at, "check")
            os.write(tells, b"!")
            keys = [f"k{number}-{n}" for n in range(AT_ONCE)]
            together(*[partial(place.ask, "record", at, idempotency_key=key) for key in keys])
            sleep(60)
        os.read(begins, 1)
        sleep(SHORTEST_S * 2 ** chance.uniform(0, 7))
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        os.close(begins)
        os.close(tells)
        for n in range(AT_ONCE):
            taken += own.ask("record", at, idempotency_key=f"k{number}-{n}").replayed
    print(json.dumps({"taken": taken, "not_taken": ROUNDS * AT_ONCE - taken}))  # noqa: T201 - for who has started us


if __name__ == "__main__":
    main(*sys.argv[1:])
