"""src/openapi.ts of the npm package: the types of /openapi.json. `make client-types` writes it anew."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sidecar.api.endpoints import ENDPOINTS
from sidecar.api.openapi import document
from tests.node import installed, passed
from tests.typescript.packages import BIN, PACKAGE

FILE = PACKAGE / "src/openapi.ts"


def written() -> str:
    """What the file should hold."""
    installed(PACKAGE)
    with tempfile.TemporaryDirectory() as folder:
        described, types = Path(folder) / "openapi.json", Path(folder) / "openapi.ts"
        described.write_text(json.dumps(document(ENDPOINTS)))
        passed(BIN / "openapi-typescript", described, "--output", types, cwd=PACKAGE)
        return types.read_text()


if __name__ == "__main__":
    FILE.write_text(written())
