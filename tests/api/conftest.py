from __future__ import annotations

from tests.serving.conftest import (  # noqa: F401 - fixtures: some endpoints are tested as they are served
    compiled,
    database,
    opa,
    policies_with_context,
    sidecar,
)
