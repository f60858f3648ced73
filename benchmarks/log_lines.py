"""What the decision log costs a plain check: to make its line, and to seal it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from time import process_time
from typing import TYPE_CHECKING

from benchmarks.bars import Bar
from sidecar.api.log_lines import PlainLines, facts_of, took_of
from sidecar.audit.chain import Chain
from sidecar.decisions.timings import Timings
from sidecar.identity.callers import Caller
from sidecar.text.encoding import encoded
from tests.api.stage import a_stage
from tests.values import some_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.arena import Arena

LINES, TRIES = 20_000, 5
SEAL = Bar(figure="cpu_us", at_most=5, goal=3)
FILL = Bar(figure="cpu_us", at_most=10)
_QUESTION = ("adam", "acme", "recording.start")
_CALLER = Caller(name="backend", scopes=frozenset({"authorize"}))
_OUTCOME = (
    b'{"decision_id":"0123456789abcdef0123456789abcdef","allow":true,"reason":"granted","detail":null,"status":200,'
    b'"charges":{},"upgrade":[],"needs":{},"waiting_helps":false,"policy_revision":"db3c7b7b97e26671d49aaf9f9f207ca6",'
    b'"situation":{"action":"recording.start","overrides":{"features":{}},"plan":"team","role":"admin","room":null,'
    b'"status":"active"},"facts_at":"2026-11-28T09:00:00.120345Z","facts_cached":false}'
)


class _Kept:
    waits = False

    def __init__(self) -> None:
        self.line = b""

    def note(self, line: bytes) -> None:
        self.line = line


def costs(_: Arena) -> Iterator[tuple[str, float, Bar]]:
    """CPU microseconds a line; the least of some tries, for others share the machine."""
    log = _Kept()
    service = replace(a_stage().service, log=log, catalog=b"5d41c0de9a7b2f31")
    facts = replace(some_facts(role="admin"), version=17)

    lines = PlainLines.of(service, _CALLER, "authorize")

    def fill() -> None:
        log.note(
            lines.line(
                encoded(datetime.now(UTC)),
                "0123456789abcdef0123456789abcdef",
                _QUESTION,
                facts_of(facts),
                _OUTCOME,
                took_of(Timings(facts_s=0.001), 0.001),
            )
        )

    fill()
    chain = Chain("host7-mi2k9x1q-30528")
    size = len(chain.seal(log.line))
    yield f"log: a line of {size:,} bytes is made", _cpu_us(fill), FILL
    yield "log: it is sealed", _cpu_us(lambda: chain.seal(log.line)), SEAL


def _cpu_us(call: Callable[[], object]) -> float:
    took = []
    for _ in range(TRIES):
        began = process_time()
        for _ in range(LINES):
            call()
        took.append((process_time() - began) / LINES * 1e6)
    return min(took)
