"""All that a generation of workers is made of: what the files say, and the verdicts learnt from it."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import islice
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, TypeVar

from sidecar.api.authzen.policy import Rules
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
from sidecar.rego.beside import authzen_beside, beside
from sidecar.rego.bundle import served_bundle
from sidecar.rego.compile import catalog_digest
from sidecar.rego.load import compiled_at
from sidecar.serving.secret_files import console_secret_at, mask_key_at
from sidecar.store.connections import parameters_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from sidecar.decisions.model import Verdict
    from sidecar.identity.callers import Callers
    from sidecar.identity.users import Identities
    from sidecar.rego.authzen import AuthzenPolicy
    from sidecar.rego.beside import Beside
    from sidecar.rego.compile import Compiled
    from sidecar.settings import Settings

T = TypeVar("T")
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

    def beside(self) -> Iterator[Beside]:
        """What this generation is answered by while another's bundle is the newest."""
        yield beside(self.compiled)
        if self.authzen is not None:
            yield authzen_beside(self.authzen)


def load(settings: Settings, *, kept: Path | None = None, before: Loaded | None = None) -> Loaded:
    """ConfigError with every problem of plans, policies, tokens and keys.

    *before* is what serves until this takes over: the bundle has it too.
    *kept* is a file that keeps the embedded engine's verdicts from one start to the next.
    """
    problems: list[Problem] = []

    def read(what: Callable[[], T], *, at: str = "") -> T | None:
        try:
            return what()
        except ConfigError as error:
            problems.extend(error.problems or (Problem(pointer=at, detail=error.detail),))
            return None

    compiled = read(partial(_compiled, settings))
    authzen = read(partial(_authzen_policy, settings), at=str(settings.authzen_policy))
    problems += _unreadable_urls(settings)
    problems += _grpc_of(settings)
    require_signed, of_stripe = _stripe_of(settings)
    problems += of_stripe
    callers = read(partial(callers_in, settings.tokens))
    identities = read(partial(identities_of, settings))
    problems += _problems_of_log(settings.log_dir)
    mask_key, console_secret, of_secrets = _secrets_of(settings)
    problems += of_secrets
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
        bundle=served_bundle(compiled, authzen, before=() if before is None else before.beside()),
        callers=callers,
        identities=identities,
        authzen=authzen,
        catalog=catalog_digest(text),
        mask_key=mask_key or b"",
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
        *_secrets_of(settings)[2],
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


def _secrets_of(settings: Settings) -> tuple[bytes | None, bytes | None, list[Problem]]:
    """The key of the log's masks, what signs the console's cookies, and why one cannot be read."""
    found: list[bytes | None] = []
    problems: list[Problem] = []
    for is_wanted, file, secret_at in (
        (settings.log_mask, settings.log_mask_key, mask_key_at),
        (settings.console, settings.console_secret, console_secret_at),
    ):
        try:
            found.append(secret_at(file) if is_wanted and file is not None else None)
        except ConfigError as error:
            found.append(None)
            problems += error.problems
    mask_key, console_secret = found
    return mask_key, console_secret, problems


def _problems_of_log(folder: Path | None) -> Iterator[Problem]:
    """Why no log can be written there."""
    if folder is None:
        return
    detail = None
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        detail = error.strerror
    else:
        if not os.access(folder, os.W_OK | os.X_OK):
            detail = "this process may not write there"
    if detail:
        yield Problem(pointer="SIDECAR_LOG_DIR", detail=f"{folder}: {detail}")


def _compiled(settings: Settings) -> Compiled:
    compiled = compiled_at(settings.plans, settings.policies)
    try:
        refuse_unbuilt(compiled, settings.policies, by_embedded=settings.engine == "embedded")
    except NotAsked as error:  # an OPA beside us that does not run is no reason not to serve
        _log.warning("the policies were not built before they are served: %s", error)
    return compiled


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
