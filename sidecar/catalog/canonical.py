"""The file in canonical form: what the revision is the hash of."""

from __future__ import annotations

import json
from typing import Any

_LEFT_OUT = "invariants"  # they are checked, and no answer depends on them


def canonical_text(file: dict[str, Any]) -> str:
    """All of a valid *file* but its invariants, sections to come included.

    The order of names counts where answers depend on it: in the sections, and in what an action takes. No
    other order does.
    """
    document = {name: section for name, section in file.items() if name != _LEFT_OUT}
    sections = {name: list(section) for name, section in document.items() if isinstance(section, dict)}
    actions = file.get("actions") or {}
    takes = {name: list(action["takes"]) for name, action in actions.items() if action.get("takes")}
    content = {"document": document, "sections": sections, "takes": takes}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
