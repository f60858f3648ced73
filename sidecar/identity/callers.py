"""Who may ask: caller tokens, kept as hashes in a file."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

from sidecar.errors import ConfigError, Problem, UnknownCaller, Unroutable
from sidecar.text.nearest import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

SCOPES = ("authorize", "admin", "audit", "people")
TOKEN_PREFIX = "sct_"  # noqa: S105 - what a secret scanner can look for
_RANDOM_BYTES = 32
_FOR_THE_OWNER = 0o600
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_HASH = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_TOKEN = re.compile(r"([A-Za-z0-9._~+/-]{1,4096}=*)", re.ASCII)
_MADE = re.compile(r"made (\S+) by (\S+)")  # behind the # of a line
_PORT = re.compile(r":[0-9]*\Z", re.ASCII)
_BEARER = re.compile(rf"[Bb][Ee][Aa][Rr][Ee][Rr] +{_TOKEN.pattern}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """*made_at* is RFC 3339 and *made_by* a login of the machine, where the tokens file tells of them."""

    name: str
    scopes: frozenset[str]
    made_at: str | None = None
    made_by: str | None = None


BY_SOCKET = Caller(name="unix-socket", scopes=frozenset(SCOPES))
ANYBODY = Caller(
    name="anybody", scopes=frozenset({"authorize"})
)  # of AuthZEN's endpoints in a conformance run
BY_LOOPBACK = Caller(name="loopback", scopes=frozenset({"authorize"}))
NEARBY_GATEWAY = Caller(name="loopback", scopes=frozenset())


class Callers:
    """*known* maps the SHA-256 of a token to whose it is; None of it is what no tokens file says."""

    def __init__(self, known: Mapping[str, Caller] | None) -> None:
        self._known = known or {}
        self._without_token = BY_LOOPBACK if known is None else None
        self.generation = object()  # another one as soon as a token may be of somebody else

    def replace(self, newer: Callers) -> None:
        """From any thread: from now on they are those of *newer*, all at once."""
        self._known = newer._known
        self.generation = object()

    @property
    def known(self) -> tuple[Caller, ...]:
        """In the order of the file; one with two tokens is there twice."""
        return tuple(self._known.values())

    @property
    def digests(self) -> Mapping[str, Caller]:
        """Whose token each digest is of, for who makes a session of one."""
        return self._known

    def caller(
        self, authorization: str | None, *, by_socket: bool, bare: bool = False, host: str | None = None
    ) -> Caller:
        """Who presents a token is who the token says; UnknownCaller if it says nobody.

        *bare*: the token may also stand alone, as AuthZEN's public runners send it. *host* is the request's
        header `Host`.

        Without a token a Unix socket may do everything: its file's mode is its guard. On loopback without a
        tokens file any program of this machine may ask, but no web page; Settings refuses to start so on any
        other address.
        """
        if authorization is None:
            if by_socket:
                return BY_SOCKET
            if self._without_token is None or is_of_elsewhere(host or ""):
                raise UnknownCaller
            return self._without_token

        bearer = _BEARER.fullmatch(authorization) or (_TOKEN.fullmatch(authorization) if bare else None)
        if bearer is None:
            raise UnknownCaller
        # Found by its hash: how long that takes tells nothing about the token itself.
        caller = self._known.get(digest_of(bearer[1]))
        if caller is None:
            raise UnknownCaller
        return caller

    def gateway(self, token: str | None, *, by_socket: bool, nearby: bool) -> Caller:
        """Who asks for an end user, whose own header says who *they* are. Unroutable if it may not.

        On loopback a gateway need not show a token; then it has no scope, and who the user is must be proved.
        """
        if token:
            caller = self._known.get(digest_of(token))
            if caller is None or "authorize" not in caller.scopes:
                raise Unroutable(
                    "what the gateway shows is no token with the scope authorize", code="gateway_untrusted"
                )
            return caller
        if by_socket:
            return BY_SOCKET
        if not nearby:
            raise Unroutable("from another machine a gateway has to show a token", code="gateway_untrusted")
        return NEARBY_GATEWAY


@lru_cache(maxsize=256)
def is_of_elsewhere(host: str) -> bool:
    """Whether *host*, a header, is not this machine's: an address of another, or a name of the public DNS.

    Whoever wrote a web page may let such a name mean 127.0.0.1 (DNS rebinding): then browsers take the
    sidecar for the page's own server. A name without a dot is not in the public DNS.
    """
    name = _PORT.sub("", host.lower()).rstrip(".")
    try:
        return not ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return "." in name and not name.endswith(".localhost")


def callers_in(path: Path | None) -> Callers:
    """ConfigError with every problem of the file, each with its line."""
    if path is None:
        return Callers(None)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(
            "the tokens file cannot be read",
            problems=(
                Problem(pointer=str(path), detail=f"cannot be read: {reason}; `sidecar token` makes it"),
            ),
        ) from error

    known: dict[str, Caller] = {}
    problems: list[Problem] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words, _, comment = line.partition("#")
        faults = list(_faults_in(words.split()))
        if not faults:
            name, scopes, token_hash = words.split()
            made = _MADE.fullmatch(comment.strip())
            digest = token_hash.removeprefix("sha256:")
            if digest in known:
                faults = [f"the same token as that of {known[digest].name}"]
            known[digest] = Caller(
                name=name,
                scopes=frozenset(scopes.split(",")),
                made_at=made[1] if made else None,
                made_by=made[2] if made else None,
            )
        problems += [Problem(pointer=f"{path}:{number}", detail=fault) for fault in faults]
    if not known and not problems:
        problems.append(
            Problem(pointer=str(path), detail="holds no token: nobody could ask; `sidecar token` makes one")
        )
    if problems:
        raise ConfigError("the tokens file is not right", problems=tuple(problems))
    return Callers(known)


def token_line(
    name: str, scopes: Sequence[str], token: str, *, made_at: datetime | None = None, made_by: str = ""
) -> str:
    """The line of a tokens file by which *token* is known; ConfigError if name or scopes are not ones.

    With *made_at*, in UTC, it also tells when and by which login of the machine it was made.
    """
    fields = [name, ",".join(scopes), f"sha256:{digest_of(token)}"]
    if faults := tuple(_faults_in(fields)):
        raise ConfigError(
            "not a token", problems=tuple(Problem(pointer="", detail=fault) for fault in faults)
        )
    if made_at is not None:
        fields += ["#", "made", f"{made_at:%Y-%m-%dT%H:%M:%SZ}", "by", "_".join(made_by.split()) or "unknown"]
    return " ".join(fields)


def new_token() -> str:
    return f"{TOKEN_PREFIX}{secrets.token_urlsafe(_RANDOM_BYTES)}"


def append_line(path: Path, line: str) -> None:
    """Put *line* at the end of *path*: whoever reads it sees the old file or the new one.

    OSError if the folder does not let us; ConfigError if the file is not right as it is.
    """
    before = ""
    with suppress(FileNotFoundError):
        before = path.read_text(encoding="utf-8")
    if before.strip():
        callers_in(path)  # a mistake in it would stop the sidecar at its next start: say so now
    if before and not before.endswith("\n"):
        before += "\n"
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=path.resolve().parent, prefix=f".{path.name}.", delete=False
    ) as new:
        try:
            os.fchmod(new.fileno(), _FOR_THE_OWNER)
            new.write(f"{before}{line}\n")
            new.flush()
            os.fsync(new.fileno())
            Path(new.name).replace(path.resolve())
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise


def _faults_in(fields: Sequence[str]) -> Iterator[str]:
    try:
        name, scopes, token_hash = fields
    except ValueError:
        yield f"expected NAME SCOPE[,SCOPE…] sha256:HASH, got {len(fields)} words"
        return
    if not _NAME.fullmatch(name):
        yield "the name must be 1 to 64 letters, digits, dots, dashes or underscores"
    for scope in scopes.split(","):
        if scope not in SCOPES:
            near = nearest(scope, SCOPES)
            hint = f"; did you mean {near}?" if near else ""
            # What stands here may be a token that somebody pasted: it is not shown.
            yield f"a scope is not one of {', '.join(SCOPES)}{hint}"
    if not _HASH.fullmatch(token_hash):
        yield "the hash must be sha256: and 64 hexadecimal digits; `sidecar token` writes it"


def digest_of(token: str) -> str:
    return sha256(token.encode()).hexdigest()
