"""What would keep a sidecar from serving on this machine, with these settings: all of it, in a few seconds.

Each part is looked at on a thread of its own, so that one that is silent costs no other its time.
"""

from __future__ import annotations

from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, SidecarError
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.load import compiled_at
from sidecar.serving.doctor.around import disk_checks, ports_checks, tokens_checks, users_checks
from sidecar.serving.doctor.check import finding, ok, skipped
from sidecar.serving.doctor.database import auditor_checks, database_checks
from sidecar.serving.doctor.engine import engine_checks
from sidecar.serving.doctor.replicas import replica_checks
from sidecar.serving.loaded import wanting
from sidecar.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled
    from sidecar.serving.doctor.check import Check

WITHIN_S = 5.0  # for all parts together
_PARTS = ("database", "engine", "tokens", "jwks", "port", "disk")


def examine(environ: Mapping[str, str], *, within_s: float = WITHIN_S) -> list[Check]:
    """*environ* has the SIDECAR_… variables as `sidecar serve` would find them."""
    try:
        settings = Settings.from_environ(environ)
    except ConfigError as error:
        found = [
            finding("settings", f"{problem.pointer} {problem.detail}", "see docs/configuration.md")
            for problem in error.problems
        ]
        return [*found, *(skipped(part, "not looked at: correct the settings first") for part in _PARTS)]
    checks = [
        finding("settings", f"{problem.pointer}: {problem.detail}", "see docs/configuration.md")
        for problem in wanting(settings)
    ] or [ok("settings", "complete")]
    compiled, found = _files(settings)
    checks += found
    authzen, found = _authzen(settings)
    checks += found
    parts: dict[str, Callable[[], Iterator[Check]]] = {
        "database": lambda: database_checks(settings, compiled),
        "auditor": lambda: auditor_checks(settings),
        "replicas": lambda: replica_checks(settings),
        "engine": lambda: engine_checks(settings, compiled, authzen),
        "tokens": lambda: tokens_checks(settings),
        "jwks": lambda: users_checks(settings),
        "port": lambda: ports_checks(settings),
        "disk": lambda: disk_checks(settings),
    }
    running = [_Running(name, part) for name, part in parts.items()]
    ending = monotonic() + within_s
    for each in running:
        each.thread.join(max(0.0, ending - monotonic()))
        checks += each.found_so_far(within_s)
    return checks


class _Running:
    """One part, on a thread that may go on after nobody waits for it: a name server cannot be cut off."""

    def __init__(self, name: str, part: Callable[[], Iterator[Check]]) -> None:
        self._name = name
        self._part = part
        self._found: list[Check] = []
        self.thread = Thread(target=self._run, name=f"doctor {name}", daemon=True)
        self.thread.start()

    def found_so_far(self, within_s: float) -> list[Check]:
        found = list(self._found)
        if self.thread.is_alive():
            do = "is its host the right one, and does this machine reach it?"
            found.append(finding(self._name, f"no answer within {within_s:g} s", do))
        return found

    def _run(self) -> None:
        try:
            for check in self._part():
                self._found.append(check)
        except (SidecarError, OSError) as error:
            self._found.append(finding(self._name, str(error), "correct that, and run this again"))


def _authzen(settings: Settings) -> tuple[AuthzenPolicy | None, list[Check]]:
    """Nothing to tell where there is no domain of its own."""
    if (folder := settings.authzen_policy) is None:
        return None, []
    try:
        policy = authzen_policy_at(folder)
    except ConfigError as error:
        return None, _told("authzen policy", error, "`sidecar check --authzen-policy` says all that is wrong")
    return policy, [ok("authzen policy", f"{folder}: revision {policy.revision[:8]}…")]


def _told(name: str, error: ConfigError, do: str) -> list[Check]:
    texts = [f"{each.pointer}: {each.detail}" for each in error.problems] or [error.detail]
    return [finding(name, text, do) for text in texts]


def _files(settings: Settings) -> tuple[Compiled | None, list[Check]]:
    try:
        compiled = compiled_at(settings.plans, settings.policies)
    except ConfigError as error:
        return None, _told("files", error, "`sidecar check` says all that is wrong")
    says = f"{settings.plans} and {settings.policies}: revision {compiled.revision[:8]}…"
    return compiled, [ok("files", says)]
