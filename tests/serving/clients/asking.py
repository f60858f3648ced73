"""What every client is told to ask, and what it should be answered."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_QUESTION = {"user": "adam", "workspace": "acme", "action": "recording.start"}
_EVALUATION = {
    "subject": {"type": "user", "id": "adam"},
    "action": {"name": "recording.start"},
    "resource": {"type": "workspace", "id": "acme"},
}
JSON = {"Content-Type": "application/json"}
REQUESTS = [
    (path, json.dumps(document))
    for path, document in (
        ("/v1/authorize", _QUESTION),
        ("/access/v1/evaluation", _EVALUATION),
        ("/v1/authorize/batch", {"questions": [_QUESTION] * 2}),
        ("/v1/authorize/batch", {"questions": [_QUESTION] * 300}),  # 20 KB
        ("/v1/authorize", _QUESTION | {"amounts": {"minutes": 1}}),
        ("/v1/authorize", _QUESTION),
    )
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """REQUESTS are sent to *url*, one by one and then all at once.

    *chunked*: the client does not know how long a body is before it has sent it. *folder* is its own.
    """

    url: str
    folder: Path
    chunked: bool = False
    headers: tuple[str, ...] = ()


Answers = list[tuple[int, str]]


def is_granted(path: str, answer: tuple[int, str]) -> bool:
    status, text = answer
    document: Any = json.loads(text)
    match path:
        case "/v1/authorize":
            granted = [document["allow"]]
        case "/v1/authorize/batch":
            granted = [each["allow"] for each in document["answers"]]
        case _:
            granted = [document["decision"]]
    return status == 200 and all(granted)
