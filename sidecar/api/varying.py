"""Lines that are new with each request: its id, a key, a trace. Without them most heads come again."""

from __future__ import annotations

import re

NAMES = (
    "X-Request-ID",
    "X-Request-Key",
    "traceparent",
    "tracestate",
    "X-Amzn-Trace-Id",
    "X-B3-TraceId",
    "X-B3-SpanId",
    "X-B3-ParentSpanId",
    "X-Cloud-Trace-Context",
)
LOWER = frozenset(name.lower() for name in NAMES)
# Only as the common clients write it; another line of such a name is one of the head.
_LINE = re.compile(rb"\r\n((?i:" + "|".join(NAMES).encode() + rb")): ?([!-~]{1,256})(?=\r\n)")

Varying = dict[str, str]  # values by name, in lower case


def apart(raw: bytes) -> tuple[bytes, Varying | None]:
    """The head *raw* without these lines, and what they say; None if one of them comes twice."""
    parts = _LINE.split(raw)
    if len(parts) == 1:
        return raw, {}
    names, values = parts[1::3], parts[2::3]
    varying = {name.decode().lower(): value.decode() for name, value in zip(names, values, strict=True)}
    return b"".join(parts[::3]), varying if len(varying) == len(names) else None
