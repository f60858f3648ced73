"""All that a generation of workers is made of: what the files say, and the verdicts learnt from it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from sidecar.api.authzen.policy import Rules
from sidecar.audit.masks import key_in
from sidecar.decisions.cells import MOST_REMEMBERED, cells
from sidecar.decisions.situation import situation_bytes
from sidecar.engines.apart import refuse_if_dangerous
from sidecar.engines.building import in_folder, refuse_unbuilt
from sidecar.engines.installed import engine_of
from sidecar.engines.learnt import learn_verdicts
from sidecar.errors import ConfigError, EngineMisbehaved, NotAsked, Problem
from sidecar.identity.callers import callers_in
from sidecar.identity.users import identities_of
from sidecar.rego.authzen import authzen_policy_at
from sidecar.rego.beside import beside
from sidecar.rego.bundle import served_bundle
from sidecar.rego.compile import catalog_digest
from sidecar.rego.load import compiled_at
from sidecar.store.connections import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from sidecar.decisions.model import Verdict
    from sidecar.identity.callers import Callers
    from sidecar.identity.users import Identities
    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.compile import Compiled
    from sidecar.settings import Settings

_SHORTEST_KEY = 16
_SHORTEST_SECRET = 32
_log = logging.getLogger("sidecar")

GRPC = "sidecar.serving.grpc"  # imported where it is wanted: it needs an extra
STRIPE = "sidecar.identity.stripe_signatures"  # ditto
# OPA is another process, which may be waiting for our bundle: then the workers learn, as soon as it has it.
_LEARNT_WITHIN_S = {"opa": 5.0, "embedded": 60.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Workers inherit it by the fork, so all of a generation decide alike.

    *cells* are the situations whose verdicts a worker keeps, *known* the verdicts that were learnt already.
    *catalog* is the digest of plans.yaml, *mask_key* what the log masks values with. *require_signed* refuses
    what Stripe has not signed; None where nothing of Stripe is taken. *console_secret* signs the console's
    cookies; None where no file has one.
    """

    compiled: Compiled
    bundle: bytes
    callers: Callers
    identities: Identities | None
    authzen: AuthzenPolicy | None = None
    cells: Sequence[bytes] = ()
    known: Mapping[bytes, Verdict] = field(default_factory=dict)
    catalog: str = ""
    mask_key: bytes = b""
    plans_text: bytes = b""
    console_secret: bytes | None = None
    require_signed: Callable[[bytes, str | None], None] | None = None


def load(settings: Settings, *, kept: Path | None = None, before: Compiled | None = None) -> Loaded:
    """ConfigError with every problem of plans, policies, tokens and keys.

    *before* is what serves until this takes over: the bundle has it too.
    *kept* is a file that keeps the embedded engine's verdicts from one start to the next.
    """
    problems: list[Problem] = []
    compiled, callers, identities, authzen = None, None, None, None
    try:
        compiled = compiled_at(settings.plans, settings.policies)
        _refuse_unbuilt(compiled, settings)
    except ConfigError as error:
        problems += _problems_of(error)
    try:
        authzen = _authzen_policy(settings)
    except ConfigError as error:
        problems += _problems_of(error, at=str(settings.authzen_policy))
    problems += _unreadable_urls(settings)
    problems += _grpc_of(settings)
    require_signed, of_stripe = _stripe_of(settings)
    problems += of_stripe
    try:
        callers = callers_in(settings.tokens)
    except ConfigError as error:
        problems += error.problems
    try:
        identities = identities_of(settings)
    except ConfigError as error:
        problems += error.problems
    problems += _log_folder_of(settings)
    mask_key, of_masks = _mask_key_of(settings)
    problems += of_masks
    console_secret, of_console = _console_secret_of(settings)
    problems += of_console
    if compiled is None or callers is None or problems:
        raise ConfigError("the files are not right", problems=tuple(problems))
    situations = [situation_bytes(cell) for cell in islice(cells(compiled.catalog), MOST_REMEMBERED)]
    try:
        known = learn_verdicts(
            compiled,
            situations,
            engine=settings.engine,
            opa_url=settings.opa_url,
            deadline=monotonic() + _LEARNT_WITHIN_S[settings.engine],
            kept=kept,
        )
    except ConfigError as error:
        raise in_folder(error, settings.policies) from error
    text = settings.plans.read_bytes()
    return Loaded(
        compiled=compiled,
        bundle=served_bundle(compiled, authzen, before=None if before is None else beside(before)),
        callers=callers,
        identities=identities,
        authzen=authzen,
        catalog=catalog_digest(text),
        mask_key=mask_key,
        plans_text=text,
        console_secret=console_secret,
        require_signed=require_signed,
        cells=situations,
        known=known,
    )


def _unreadable_urls(settings: Settings) -> list[Problem]:
    """In our words: libpq's own would show a password."""
    urls = {"SIDECAR_DATABASE_URL": (settings.database_url,), "SIDECAR_FACTS_URLS": settings.facts_urls}
    problems = []
    for pointer, of in urls.items():
        for number, url in enumerate(of, start=1):
            try:
                parameters_of(url)
            except ConfigError:
                which = f"URL {number} " if len(of) > 1 else ""
                detail = f"{which}is not a connection string that libpq can read"
                problems.append(Problem(pointer=pointer, detail=detail))
    return problems


def wanting(settings: Settings) -> list[Problem]:
    """Extras and files of secrets that *settings* need, and are not there or not right."""
    return [
        *_grpc_of(settings),
        *_stripe_of(settings)[1],
        *_mask_key_of(settings)[1],
        *_console_secret_of(settings)[1],
    ]


def _grpc_of(settings: Settings) -> list[Problem]:
    if not settings.grpc_bind:
        return []
    try:
        import_module(GRPC)
    except ModuleNotFoundError as error:
        detail = f"a grpc:// address needs the extra `grpc`: {error.name} is not installed"
        return [Problem(pointer="SIDECAR_BIND", detail=detail)]
    return []


def _stripe_of(settings: Settings) -> tuple[Callable[[bytes, str | None], None] | None, list[Problem]]:
    """What refuses the bodies that Stripe has not signed, and why there is none."""
    if not settings.stripe_secrets:
        return None, []
    try:
        signatures = import_module(STRIPE).StripeSignatures(settings.stripe_secrets)
    except ModuleNotFoundError as error:
        detail = f"Stripe's events need the extra `stripe`: {error.name} is not installed"
        return None, [Problem(pointer="SIDECAR_STRIPE_SECRETS", detail=detail)]
    return signatures.require, []


def _log_folder_of(settings: Settings) -> list[Problem]:
    """Why the log cannot be written. The folder is made."""
    folder, pointer = settings.log_dir, "SIDECAR_LOG_DIR"
    if folder is None:
        return []
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        return [Problem(pointer=pointer, detail=f"{folder}: {error.strerror}")]
    if not os.access(folder, os.W_OK | os.X_OK):
        return [Problem(pointer=pointer, detail=f"{folder}: this process may not write there")]
    return []


def _mask_key_of(settings: Settings) -> tuple[bytes, list[Problem]]:
    """The key of the log's masks, and why there is none."""
    if not settings.log_mask or (file := settings.log_mask_key) is None:
        return b"", []
    try:
        return mask_key_at(file), []
    except ConfigError as error:
        return b"", list(error.problems)


def mask_key_at(file: Path) -> bytes:
    """ConfigError with every problem of the file."""
    name = "SIDECAR_LOG_MASK_KEY"
    problems = []
    try:
        key, mode = key_in(file.read_bytes()), file.stat().st_mode
    except OSError as error:
        problem = Problem(pointer=name, detail=f"{file}: {error.strerror}")
        raise ConfigError("the key of the log's masks cannot be read", problems=(problem,)) from error
    if len(key) < _SHORTEST_KEY:
        problems.append(Problem(pointer=name, detail=f"{file}: must have {_SHORTEST_KEY} bytes or more"))
    if mode & 0o077:
        problems.append(Problem(pointer=name, detail=f"{file}: others may read it; chmod 600"))
    if problems:
        raise ConfigError("the key of the log's masks is not right", problems=tuple(problems))
    return key


def _console_secret_of(settings: Settings) -> tuple[bytes | None, list[Problem]]:
    """What the file holds, and why it cannot sign."""
    file, pointer = settings.console_secret, "SIDECAR_CONSOLE_SECRET"
    if file is None or not settings.console:
        return None, []
    try:
        secret, mode = file.read_bytes().strip(), file.stat().st_mode
    except OSError as error:
        return None, [Problem(pointer=pointer, detail=f"{file}: {error.strerror}")]
    if len(secret) < _SHORTEST_SECRET:
        detail = f"{file}: must have {_SHORTEST_SECRET} bytes or more; openssl rand -hex 32 writes them"
        return None, [Problem(pointer=pointer, detail=detail)]
    if mode & 0o007:  # a group may share it: Kubernetes mounts secrets so
        return None, [Problem(pointer=pointer, detail=f"{file}: everybody may read it; chmod 640")]
    return secret, []


def _refuse_unbuilt(compiled: Compiled, settings: Settings) -> None:
    """ConfigError as refuse_unbuilt. An OPA beside us that does not run is no reason not to serve."""
    try:
        refuse_unbuilt(compiled, settings.policies, by_embedded=settings.engine == "embedded")
    except NotAsked as error:
        _log.warning("the policies were not built before they are served: %s", error)


def _problems_of(error: ConfigError, *, at: str = "") -> tuple[Problem, ...]:
    return error.problems or (Problem(pointer=at, detail=error.detail),)


def _authzen_policy(settings: Settings) -> AuthzenPolicy | None:
    """ConfigError where it is no policy, or where the embedded engine has no answer by it."""
    if settings.authzen_policy is None:
        return None
    policy = authzen_policy_at(settings.authzen_policy)
    if settings.engine == "embedded":
        try:
            refuse_if_dangerous(policy)
            engine = engine_of("embedded", policy, opa_url="", rules=tuple(policy.rules.values()))
        except ConfigError as error:
            raise in_folder(error, settings.authzen_policy, root=policy.root) from error
        try:
            Rules(policy, engine).served_revision(deadline=inf)
        except EngineMisbehaved as error:
            raise ConfigError(f"it must decide about every input, even about {{}}: {error.detail}") from error
    return policy
