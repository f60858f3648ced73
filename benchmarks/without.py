"""`sidecar` without a part of its log, to see what the part costs: python -m benchmarks.without seal serve"""

from __future__ import annotations

import sys
from base64 import urlsafe_b64encode
from math import inf

from sidecar.audit import chain
from sidecar.cli import main
from sidecar.serving import anchoring


def _seal(self: chain.Chain, line: bytes) -> bytes:
    """As Chain.seal, but for the hash."""
    self.n += 1
    return b'%b,"h":"%b"}\n' % (self._form % (line, self.n), urlsafe_b64encode(self.head)[:43])


def _without(part: str) -> None:
    match part:
        case "seal":
            chain.Chain.seal = _seal  # type: ignore[method-assign] # that is what is measured
        case "anchors":
            anchoring.EVERY_S = inf
        case _:
            sys.exit(f"{part} is no part of the log: seal, anchors")


if __name__ == "__main__":
    _without(sys.argv.pop(1))
    main()
