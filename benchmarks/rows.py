"""The rows of the table: who is asked what, side by side, and the bar of each."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.bars import Bar
from benchmarks.questions import BATCH

OPA = "OPA"  # its own server, with memberships in its memory, asked the same question
OURS = "ours"
_EQUAL = Bar(of=OURS, at_least=0.9)  # within the noise
RATE_AT = {16: (1.4, 1.6), 64: (2.2, 2.5), 256: (2.5, 3.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """*server* is one of the arena's, or `upsert`; *asks* is a kind of `questions`, or `grpc`."""

    name: str
    server: str
    asks: str
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """*compared* names the contender that the others' rates are compared with, if there is one."""

    key: str  # of --only; several rows may have it
    what: str
    connections: int
    contenders: tuple[Contender, ...]
    compared: str = OPA
    decisions: int = 1  # in one answer


def _ours(asks: str, *bars: Bar, server: str = "embedded", name: str = OURS) -> Contender:
    return Contender(name=name, server=server, asks=asks, bars=bars)


def _opa(asks: str) -> Contender:
    return Contender(name=OPA, server="rival", asks=asks)


def _authorize(connections: int) -> Row:
    if connections == 1:
        ours = [Bar(figure="p50_ms", of=OPA, at_most=2)]
    else:
        at_least, goal = RATE_AT[connections]
        ours = [
            Bar(of=OPA, at_least=at_least, goal=goal),
            Bar(figure="p99_ms", of=OPA, at_most=0.35),
            Bar(of="constant", at_least=0.4),
        ]
    return Row(
        key="authorize",
        what="`/v1/authorize`, check",
        connections=connections,
        contenders=(
            _ours("authorize", *ours),
            _opa("opa"),
            _ours("authorize", _EQUAL, server="opa", name="engine opa"),
            Contender(name="constant", server="constant_answer", asks="authorize"),
        ),
    )


def _endpoint(what: str, asks: str, opa: str, *bars: Bar, key: str) -> Row:
    return Row(
        key=key,
        what=what,
        connections=16,
        contenders=(_ours(asks, *bars), _opa(opa)),
    )


_AS_FAST = Bar(of=OPA, at_least=1.1, goal=1.3)
_BEFORE = (Bar(of="before", at_least=1.5), Bar(figure="cpu_us", of="before", at_most=1.0))


def _consume(what: str, asks: str, at_least: float) -> Row:
    return Row(
        key="consume",
        what=f"consume with a key, {what}",
        connections=64,
        contenders=(
            _ours(asks, Bar(of="upsert", at_least=at_least)),
            Contender(name="upsert", server="upsert", asks=asks),
        ),
        compared="upsert",
    )


_LOG = (
    Row(
        key="log",
        what="`/v1/authorize`, the log",
        connections=64,
        contenders=(
            _ours(
                "authorize",
                Bar(of="unsealed", at_least=0.95),
                Bar(figure="p99_ms", of="no anchors", at_most=1.2),
            ),
            _ours("authorize", server="unsealed", name="unsealed"),
            _ours("authorize", server="unanchored", name="no anchors"),
            _ours("authorize", Bar(of=OURS, at_least=0.9), server="in_files", name="in files"),
        ),
        compared="unsealed",
    ),
    Row(
        key="log",
        what="`/v1/authorize`, the log on the disk first",
        connections=1,
        contenders=(
            _ours("authorize"),
            _ours("authorize", Bar(figure="p50_ms", at_most=3.5), server="on_disk", name="wait"),
        ),
        compared=OURS,
    ),
)
# What the replica does takes from both here, on one machine: it is the primary that has to do less.
_RELIEF = (Bar(of=OURS, at_least=0.5), Bar(figure="database_cpu_us", of=OURS, at_most=0.5))
_REPLICAS = tuple(
    Row(
        key="replicas",
        what="`/v1/authorize`, facts from a replica",
        connections=connections,
        contenders=(
            _ours("authorize"),
            _ours("authorize", *_RELIEF, server="replicated", name="replica"),
        ),
        compared=OURS,
    )
    for connections in (16, 64)
)
ROWS = (
    *(_authorize(connections) for connections in (1, 16, 64, 256)),
    _endpoint("`/access/v1/evaluation`", "evaluation", "opa", _AS_FAST, key="evaluation"),
    *(
        _endpoint(f"`/gw/{name}`", name, "opa for a path", _AS_FAST, key="gateways")
        for name in ("nginx", "forward-auth", "haproxy", "ext-authz")
    ),
    _endpoint(
        "`/access/v1/evaluations`, ten questions",
        "evaluations",
        "opa",
        Bar(of=OPA, at_least=0.6, goal=0.7),
        key="evaluations",
    ),
    *(
        Row(
            key="search",
            what=f"`/access/v1/{name}`",
            connections=16,
            contenders=(_ours(name),),
            compared="",
        )
        for name in ("search/subject", "search/resource", "search/action")
    ),
    Row(
        key="grpc",
        what="gRPC `Check`",
        connections=64,
        contenders=(_ours("grpc", *_BEFORE), Contender(name="before", server="before", asks="grpc")),
        compared="before",
    ),
    Row(
        key="nginx",
        what="nginx with `auth_request`",
        connections=16,
        contenders=(
            _ours("client", Bar(of="endpoint", at_least=0.5), server="nginx"),
            Contender(name="endpoint", server="embedded", asks="nginx"),
        ),
        compared="endpoint",
    ),
    Row(
        key="batch",
        what=f"batch of {BATCH:,}",
        connections=4,
        contenders=(_ours("batch", Bar(figure="decisions", at_least=60_000, goal=100_000)),),
        compared="",
        decisions=BATCH,
    ),
    _consume("one hot counter", "consume one", 1.3),
    _consume("1,000 counters", "consume many", 1.0),
    *_LOG,
    *_REPLICAS,
)
