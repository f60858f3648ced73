"""An OPA server that ends with the process that started it: for `sidecar dev` and `sidecar test`."""

from __future__ import annotations

import signal
import tempfile
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING

from sidecar.engines.opa import OpaEngine
from sidecar.engines.verdict import NOBODY
from sidecar.errors import EngineMisbehaved, EngineUnavailable, NotAsked
from sidecar.local.children import end, start
from sidecar.rego.bundle import served_bundle
from sidecar.rego.lint import opa_binary

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled

_ANSWERS_WITHIN_S = 30.0
_POLL_S = 0.02
_GRACE_S = 10.0


@contextmanager
def local_opa(compiled: Compiled, authzen: AuthzenPolicy | None = None) -> Iterator[str]:
    """The URL of a server that answers by *compiled*; NotAsked if there is no OPA or it does not start."""
    binary = opa_binary()
    if binary is None:
        raise NotAsked(
            "there is no opa on the PATH or in ~/.cache/opa-bin: install it, or leave --engine at embedded"
        )
    with tempfile.TemporaryDirectory(prefix="sidecar-opa-") as folder:
        path = Path(folder, "authz.tar.gz")
        path.write_bytes(served_bundle(compiled, authzen))
        url = f"unix://{folder}/opa.sock"
        options = ["--log-level=error", "--skip-version-check", f"--addr={url}", "--bundle", str(path)]
        log = Path(folder, "opa.log")
        with log.open("wb") as output:
            process = start([binary, "run", "--server", *options], output=output.fileno())
        try:
            _wait_until_it_answers(process, OpaEngine(url, revision=compiled.revision), log)
            yield url
        finally:
            end(process, (signal.SIGTERM, _GRACE_S))


def _wait_until_it_answers(process: subprocess.Popen[bytes], engine: OpaEngine, log: Path) -> None:
    deadline = monotonic() + _ANSWERS_WITHIN_S
    while process.poll() is None and monotonic() < deadline:
        try:
            # Its data, not a verdict: policies without one are not an OPA that does not start.
            engine.document("data.authz.plans.revision", NOBODY, deadline=monotonic() + 1)
        except (EngineUnavailable, EngineMisbehaved):
            sleep(_POLL_S)
        else:
            return
    ending = "does not answer" if process.poll() is None else f"ended with exit code {process.returncode}"
    said = log.read_text(errors="replace").strip().splitlines()
    raise NotAsked(f"opa {ending}: {(said or ['it said nothing'])[-1]}")
