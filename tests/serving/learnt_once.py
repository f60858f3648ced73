"""`sidecar`, whose embedded engine learns the verdicts of the same policies once in a run of the tests.

That takes four seconds of CPU, and hundreds of tests start one: `python -m tests.serving.learnt_once serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sidecar.engines import learnt
from tests.effort import shared_verdicts

if TYPE_CHECKING:
    from sidecar.rego.compile import Compiled

_learn = learnt.learn_verdicts


def _learn_once(compiled: Compiled, cells: Any, *, kept: Any = None, **others: Any) -> Any:
    return _learn(compiled, cells, kept=kept or shared_verdicts(compiled.revision), **others)


if __name__ == "__main__":
    learnt.learn_verdicts = _learn_once
    from sidecar.__main__ import main

    main()
