"""What an operator sets, read from the environment once, with every problem at once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from sidecar.errors import ConfigError, Problem
from sidecar.processors import usable_processors
from sidecar.text.origins import fault_in_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

PREFIX = "SIDECAR_"
GRPC = "grpc://"
LOG_MASKS = frozenset({"user", "workspace", "resource", "request", "caller", "context"})
LOG_KEEP_DAYS = 400
KEY_DAYS = 35  # more than the longest month and the day after it
MOST_WORKERS = 8  # by default: each keeps connections to the database
_BESIDE_THE_PACKAGE = Path(__file__).resolve().parent.parent
_IN_THE_WHEEL = Path(__file__).resolve().parent / "shipped"


def shipped(name: str) -> Path:
    """*name* (``plans.yaml``, ``policies``, ``sql``, …) in a checkout, else in the installed wheel."""
    beside = _BESIDE_THE_PACKAGE / name
    return beside if beside.exists() else _IN_THE_WHEEL / name


NO_CATALOG = (
    "there is no ./plans.yaml here, so name your catalog with --plans or in this variable; the shipped demo"
    f" is taken only by its name, {shipped('plans.yaml')}"
)


class _Refused(ValueError):
    """The value is not one this setting takes; the text says what it takes."""


def _number(low: float, high: float, unit: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise _Refused(f"must be a whole number of {unit} from {low} to {high}")
        return int(text)

    return parse


def _age(low_s: int, high_s: int) -> Callable[[str], int]:
    """Of seconds, with `s` or without, minutes (`min`) or hours (`h`)."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"([0-9]{1,9})\s?(s|min|h)?", text)
        seconds = int(found[1]) * {"min": 60, "h": 3600}.get(found[2], 1) if found else -1
        if not low_s <= seconds <= high_s:
            raise _Refused(f"must be seconds, or minutes as in 30min, from {low_s} s to {high_s // 3600} h")
        return seconds

    return parse


def _database_url(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://")):
        raise _Refused("must start with postgresql://")
    return text


def _facts_urls(text: str) -> tuple[str, ...]:
    """A comma stands also between the hosts of one URL, so it parts two only where the next one begins."""
    urls = tuple(re.split(r"[\s,]+(?=postgres(?:ql)?://)", text))
    for url in urls:
        if not url.startswith(("postgresql://", "postgres://")) or re.search(r"\s", url):
            raise _Refused("must be URLs that start with postgresql://, with spaces between")
    return urls


def _engine(text: str) -> str:
    if text not in {"opa", "embedded"}:
        raise _Refused("must be opa or embedded")
    return text


def _opa_url(text: str) -> str:
    if not re.fullmatch(r"http://[^/\s]+/?|unix:///\S+", text):
        raise _Refused("must be http://HOST:PORT or unix:///PATH")
    return text.rstrip("/")


def _keys(text: str) -> str:
    if text.startswith(("/", "hs256:/")) or _is_url_of_keys(text):
        return text
    raise _Refused("must be https://…, the /PATH of a JWK set or hs256:/PATH of a secret")


def _is_url_of_keys(text: str) -> bool:
    """Whoever stands between could give out keys of their own: plain HTTP is for this machine alone."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False
    near = parts.scheme == "http" and is_loopback(f"{parts.hostname}:{parts.port}")
    return named and re.fullmatch(r"[!-~]+", text) is not None and (parts.scheme == "https" or near)


def _origins(text: str) -> tuple[str, ...]:
    """Each as a browser writes it in `Origin`: what is written in another way would never be met."""
    stated = tuple(part.strip() for part in text.split(","))
    for origin in stated:
        if (fault := fault_in_origin(origin)) is not None:
            raise _Refused(
                "must be origins as browsers send them, https://HOST or http://HOST and a :PORT that is not"
                f" the usual one, with commas between: {origin!r} {fault}"
            )
    return stated


def _yes_or_no(text: str) -> bool:
    if text not in {"yes", "no"}:
        raise _Refused("must be yes or no")
    return text == "yes"


def _pooler(text: str) -> str:
    if text not in {"transaction", "session", "off"}:
        raise _Refused("must be transaction, session or off")
    return text


def _on_or_off(text: str) -> bool:
    if text not in {"on", "off"}:
        raise _Refused("must be on or off")
    return text == "on"


def _log_format(text: str) -> str:
    if text not in {"text", "json"}:
        raise _Refused("must be text or json")
    return text


def _reload(text: str) -> str:
    if text not in {"signal", "auto"}:
        raise _Refused("must be signal or auto")
    return text


def _log_sync(text: str) -> str:
    if text not in {"no", "yes", "wait"}:
        raise _Refused("must be no, yes or wait")
    return text


def _log_skip(text: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in text.split(","))
    if names != {"check-grants"}:
        raise _Refused("must be check-grants")
    return names


def _log_mask(text: str) -> frozenset[str]:
    names = frozenset(part.strip() for part in text.split(","))
    if not all(name in LOG_MASKS or re.fullmatch(r"context\.[^\s,]+", name) for name in names):
        raise _Refused(
            f"must be some of {', '.join(sorted(LOG_MASKS))} and context.NAME, with commas between"
        )
    return names


def _stripe_secrets(text: str) -> tuple[str, ...]:
    secrets = tuple(part.strip() for part in text.split(","))
    if not all(re.fullmatch(r"[!-~]+", secret) for secret in secrets):
        raise _Refused("must be signing secrets (whsec_…), with commas between")
    if any(secret.startswith(("sk_", "rk_", "pk_")) for secret in secrets):
        raise _Refused("has a key of Stripe's API: an endpoint's signing secret begins with whsec_")
    return secrets


def _true_or_false(text: str) -> bool:
    if text not in {"true", "false"}:
        raise _Refused("must be true or false")
    return text == "true"


def _identifier(text: str) -> str:
    if not re.fullmatch(r"https://[A-Za-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~-]+)?", text):
        raise _Refused(
            "must be https://HOST, with a port and one part of a path at most, and no / at its end"
        )
    return text


def _console_url(text: str) -> str:
    """The origin alone, as a browser sends it in `Origin`."""
    origin = text.removesuffix("/").removesuffix("/console")
    fault = fault_in_origin(origin)
    near = origin.startswith("http://") and is_loopback(_with_a_port(origin))
    if fault is not None or not (origin.startswith("https://") or near):
        raise _Refused("must be https://HOST, with a :PORT that is not the usual one")
    return origin


def _with_a_port(origin: str) -> str:
    host = origin.partition("://")[2]
    return host if re.search(r":[0-9]+$", host) else f"{host}:80"


def _bind(text: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        if address.startswith("unix:/"):
            continue
        port = re.fullmatch(r"[^\s/]+:([0-9]{1,5})", address.removeprefix(GRPC))
        if not port or not 0 < int(port[1]) <= 65_535:  # noqa: PLR2004 - the highest port there is
            raise _Refused("must be HOST:PORT, unix:/PATH or grpc://HOST:PORT, several with a comma between")
    if all(address.startswith(GRPC) for address in addresses):
        raise _Refused("must have an address for HTTP too, where health and metrics are asked for")
    return addresses


def is_loopback(address: str) -> bool:
    """True of a Unix socket, of localhost and of 127.0.0.0/8 and ::1 with a port."""
    if address.startswith("unix:"):
        return True
    host = address.removeprefix(GRPC).rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False  # a name: whatever it resolves to, others may reach it


def _setting(
    parse: Callable[[str], Any],
    says: str,
    *,
    default: Any = None,  # noqa: ANN401 - whatever its parser makes
    required: bool = False,
    secret: bool = False,
) -> Any:  # noqa: ANN401 - as dataclasses.field
    return field(
        default=default,
        repr=not secret,
        metadata={"parse": parse, "says": says, "required": required, "secret": secret},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    database_url: str = _setting(
        _database_url,
        "PostgreSQL connection string; the login needs the role authz_sidecar and nothing else",
        required=True,
        secret=True,
    )
    database_connection_max_age: int = _setting(
        _age(1, 86_400),
        "how old a connection to PostgreSQL gets at most: seconds, or minutes as in 30min",
        default=1_800,
    )
    database_pooler: Literal["transaction", "session", "off"] = _setting(
        _pooler,
        "how a pooler between here and PostgreSQL gives out sessions; off: there is none",
        default="off",
    )
    facts_urls: tuple[str, ...] = _setting(
        _facts_urls,
        "PostgreSQL connection strings of streaming replicas that checks may read, with spaces between",
        default=(),
        secret=True,
    )
    facts_max_lag_ms: int = _setting(
        _number(20, 60_000, "milliseconds"),
        "how old the facts of a check may be at most that come from a replica",
        default=100,
    )
    bind: tuple[str, ...] = _setting(
        _bind,
        "addresses to listen on, HOST:PORT, unix:/PATH or grpc://HOST:PORT, several with a comma between",
        default=("127.0.0.1:8080",),
    )
    tokens: Path | None = _setting(
        Path,
        "file of token hashes that `sidecar token` writes; required on an address that others reach",
    )
    jwt_keys: str | None = _setting(
        _keys,
        "the identity provider's keys: https://… or the /PATH of a JWK set, or hs256:/PATH of a secret",
        secret=True,  # somebody will put the secret itself here
    )
    jwt_issuer: str | None = _setting(str, "the issuer (`iss`) that an end user's token must have")
    jwt_audience: str | None = _setting(str, "the audience (`aud`) that an end user's token must have")
    jwt_email_claim: str | None = _setting(
        str, "a claim that is true when the token's e-mail is verified, beside `email_verified`"
    )
    cors_origins: tuple[str, ...] = _setting(
        _origins,
        "the origins whose pages may call end users' routes and GET /plans, with commas between",
        default=(),
    )
    stripe_secrets: tuple[str, ...] = _setting(
        _stripe_secrets,
        "signing secrets of the webhook endpoint at Stripe, with commas between; then its events are taken",
        default=(),
        secret=True,
    )
    stripe_livemode: bool = _setting(
        _true_or_false, "whether Stripe's events are of live mode; others are refused", default=True
    )
    engine: Literal["opa", "embedded"] = _setting(
        _engine, "what evaluates the policies: an OPA server, or the engine inside each worker", default="opa"
    )
    opa_url: str = _setting(
        _opa_url, "where OPA listens: http://HOST:PORT or unix:///PATH", default="http://127.0.0.1:8181"
    )
    plans: Path = _setting(Path, NO_CATALOG, required=True)
    policies: Path = _setting(Path, "the folder of Rego policies", default=shipped("policies"))
    authzen_policy: Path | None = _setting(
        Path, "folder of another domain's policy, which AuthZEN's endpoints then serve instead of ours"
    )
    authzen_url: str | None = _setting(
        _identifier, "the identifier that AuthZEN's clients know this decision point by, an https URL"
    )
    authzen_anonymous: bool = _setting(
        _yes_or_no,
        "whether AuthZEN's endpoints take callers without a token: for conformance runs",
        default=False,
    )
    workers: int = _setting(
        _number(1, 256, "processes"), "worker processes", default=usable_processors(at_most=MOST_WORKERS)
    )
    threads: int = _setting(
        _number(1, 256, "threads"), "threads of a worker, each with its database connection", default=4
    )
    connections: int = _setting(
        _number(16, 100_000, "connections"),
        "connections that a worker keeps at most; beyond that the one that is idle for longest goes",
        default=2_000,
    )
    reload: Literal["signal", "auto"] = _setting(
        _reload,
        "when plans and policies are read again: at SIGHUP, or also by themselves once they have changed",
        default="signal",
    )
    lane: bool = _setting(
        _on_or_off,
        "whether plain requests for hot endpoints take the fast lane; off, they get the same answers slower",
        default=True,
    )
    log_format: Literal["text", "json"] = _setting(
        _log_format,
        "how lines on standard error are written: text, or json, an object a line",
        default="text",
    )
    log_dir: Path | None = _setting(
        Path, "folder of the decision log, a file for each worker and day; without it, standard output"
    )
    log_sync: Literal["no", "yes", "wait"] = _setting(
        _log_sync,
        "whether a line of the decision log is synced to the disk, and whether its answer waits for that",
        default="no",
    )
    log_skip: frozenset[str] = _setting(
        _log_skip, "what the decision log leaves out and only counts: check-grants", default=frozenset()
    )
    log_mask: frozenset[str] = _setting(
        _log_mask, "values that the decision log hides, with commas between", default=frozenset()
    )
    log_mask_key: Path | None = _setting(Path, "file of the key that masked values are coded with")
    log_keep_days: int = _setting(
        _number(1, 36_500, "days"),
        "how many days of SIDECAR_LOG_DIR `sidecar tidy` keeps",
        default=LOG_KEEP_DAYS,
    )
    audit_url: str | None = _setting(
        str,
        "PostgreSQL connection string by which the console reads histories; its login needs authz_audit",
        secret=True,
    )
    console: bool = _setting(
        _on_or_off, "whether people may look at workspaces, policies and decisions at /console", default=False
    )
    console_url: str | None = _setting(
        _console_url, "where browsers find the console, https://HOST; required off loopback"
    )
    console_secret: Path | None = _setting(
        Path, "file of 32 bytes or more that sign the console's cookies; without it they end with the server"
    )
    deadline_ms: int = _setting(
        _number(10, 10_000, "milliseconds"),
        "how long one question may take before it is answered 503",
        default=150,
    )
    keep_months: int | None = _setting(
        _number(1, 1_200, "months"),
        "how many months of history and usage `sidecar tidy` keeps; else all of it",
    )
    key_days: int = _setting(
        _number(1, 36_500, "days"),
        "after how many days `sidecar tidy` deletes idempotency keys that have not expired",
        default=KEY_DAYS,
    )
    grace_s: int = _setting(
        _number(1, 600, "seconds"), "how long a stopping worker may finish what it has begun", default=10
    )
    drain_s: int = _setting(
        _number(0, 300, "seconds"),
        "how long a sidecar that is told to stop answers on, but says that it is not ready",
        default=0,
    )

    @property
    def http_bind(self) -> list[str]:
        return [address for address in self.bind if not address.startswith(GRPC)]

    @property
    def grpc_bind(self) -> list[str]:
        return [address.removeprefix(GRPC) for address in self.bind if address.startswith(GRPC)]

    @property
    def own_hosts(self) -> frozenset[tuple[str, int]]:
        """The host and port that HTTP clients write when they ask the sidecar at its own address."""
        named = [address.rpartition(":") for address in (*self.http_bind, *self.grpc_bind)]
        return frozenset(
            (host.lower(), int(port))
            for bound, _, port in named
            if port.isdecimal()  # not a Unix socket
            for host in (bound, "localhost", "127.0.0.1", "[::1]")
        )

    @property
    def deadline_s(self) -> float:
        return self.deadline_ms / 1000

    @classmethod
    def some_from_environ(cls, environ: Mapping[str, str], wanted: Collection[str]) -> Settings:
        """As from_environ, of the fields *wanted* alone: the others are as by default, or None."""
        names = {PREFIX + name.upper() for name in wanted}
        required = {f"{PREFIX}DATABASE_URL": "postgresql://", f"{PREFIX}PLANS": "-"}
        found = cls.from_environ(required | {name: environ[name] for name in names if name in environ})
        return cls(**{name: getattr(found, name) for name in wanted})

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """ConfigError with every problem at once; a value never stands in it if it is a secret."""
        known = {PREFIX + each.name.upper(): each for each in fields(cls)}
        problems: list[Problem] = []
        values: dict[str, Any] = {}
        for name in sorted(environ):
            if name.startswith(PREFIX) and name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.8)
                hint = f"; did you mean {near[0]}?" if near else ": misspelt?"
                problems.append(Problem(pointer=name, detail=f"is not a setting{hint}"))
        for name, each in known.items():
            text = environ.get(name, "").strip()
            if not text:
                if each.metadata["required"]:
                    problems.append(Problem(pointer=name, detail=f"is required: {each.metadata['says']}"))
                continue
            try:
                values[each.name] = each.metadata["parse"](text)
            except _Refused as refused:
                shown = "" if each.metadata["secret"] else f", got {text!r}"
                problems.append(Problem(pointer=name, detail=f"{refused.args[0]}{shown}"))
        problems += _half_a_mask({name for name in known if environ.get(name, "").strip()})
        problems += _half_an_identity({name for name in known if environ.get(name, "").strip()})
        problems += _open_doors(values.get("bind", ()), guarded="tokens" in values)
        if values.get("console"):
            problems += _console_without_a_url(values.get("bind", ()), given="console_url" in values)
        if values.get("authzen_anonymous"):
            problems += _open_to_anybody(values.get("bind", ()), policy="authzen_policy" in values)
        if problems:
            raise ConfigError("the settings are not complete", problems=tuple(problems))
        return cls(**values)


def _open_doors(bind: tuple[str, ...], *, guarded: bool) -> list[Problem]:
    """Where somebody else's machine could ask without a token."""
    return [
        Problem(
            pointer=f"{PREFIX}BIND",
            detail=f"{address} can be reached from other machines: set {PREFIX}TOKENS to a file of caller"
            " tokens (`sidecar token` makes it), or bind to 127.0.0.1 or a Unix socket",
        )
        for address in bind
        if not guarded and not is_loopback(address)
    ]


def _console_without_a_url(bind: tuple[str, ...], *, given: bool) -> list[Problem]:
    """Off loopback a cookie must not travel without TLS."""
    return [
        Problem(
            pointer=f"{PREFIX}CONSOLE_URL",
            detail=f"is required with {PREFIX}CONSOLE=on where other machines reach {address}:"
            " https://HOST, as browsers find the console",
        )
        for address in bind
        if not given and not address.startswith(GRPC) and not is_loopback(address)
    ][:1]


def _half_a_mask(given: set[str]) -> list[Problem]:
    mask, key = f"{PREFIX}LOG_MASK", f"{PREFIX}LOG_MASK_KEY"
    if mask in given and key not in given:
        return [Problem(pointer=key, detail=f"is required with {mask}")]
    return []


def _half_an_identity(given: set[str]) -> list[Problem]:
    """Tokens are checked against all three, or there are no end users."""
    three = [f"{PREFIX}JWT_{name}" for name in ("KEYS", "ISSUER", "AUDIENCE")]
    there = [name for name in three if name in given]
    return [
        Problem(pointer=name, detail=f"is required with {there[0]}")
        for name in three
        if there and name not in given
    ]


def _open_to_anybody(bind: tuple[str, ...], *, policy: bool) -> list[Problem]:
    """What AuthZEN tells without a token must be nobody's business, and nobody else's machine may ask it."""
    name = f"{PREFIX}AUTHZEN_ANONYMOUS"
    problems = [
        Problem(pointer=name, detail=f"{address} can be reached from other machines: bind to 127.0.0.1")
        for address in bind
        if not is_loopback(address)
    ]
    if not policy:
        detail = f"only with {PREFIX}AUTHZEN_POLICY: anybody could ask who is in which workspace"
        problems.append(Problem(pointer=name, detail=detail))
    return problems
