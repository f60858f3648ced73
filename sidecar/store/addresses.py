"""Where a connection string leads: its hosts, their addresses, and what libpq needs to reach one of them.

libpq resolves names itself, and psycopg holds the interpreter's lock meanwhile: for 10 s if the name
server is silent. So libpq gets `hostaddr` from us, beside `host`, which it checks the certificate against.
"""

from __future__ import annotations

from dataclasses import dataclass
from socket import EAI_AGAIN, SOCK_STREAM, getaddrinfo
from typing import TYPE_CHECKING

from psycopg import Error
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import PGconn

from sidecar.errors import ConfigError, Problem
from sidecar.store.session import Late, Lost

if TYPE_CHECKING:
    from sidecar.store.session_setup import SessionSetup

_MUST_BE_OFF = {
    "primary": (b"in_hot_standby",),
    "read-write": (b"in_hot_standby", b"default_transaction_read_only"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """One entry of the list of hosts; an empty field is libpq's default.

    *name* may be the folder of a Unix socket; *address* is what `hostaddr` says.
    """

    name: str
    address: str
    port: str

    @property
    def is_name(self) -> bool:
        """Whether it has to be resolved."""
        return bool(not self.address and self.name and self.name[0] not in "/@")

    def addresses(self) -> list[str]:
        """Numeric addresses in the resolver's order; [""] for a Unix socket. Blocks as long as the resolver.

        Lost if the name has none, Late if no name server answered.
        """
        if self.address:
            return [self.address]
        if not self.is_name:
            return [""]
        try:
            # In bytes, as libpq: text would go through Python's IDNA, which refuses names that work.
            found = getaddrinfo(self.name.encode(), None, type=SOCK_STREAM)
        except OSError as error:
            said = f"the name {self.name} cannot be resolved: {error.strerror}"
            raise (Late if error.errno == EAI_AGAIN else Lost)(said) from error
        return list(dict.fromkeys(_numeric(*where) for *_, where in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """The *hosts* of a connection string, all to be tried for each of *sessions*, in this order.

    *sessions* are values of target_session_attrs. Without hosts libpq does not accept the string: given to it
    unchanged, libpq says why at once.
    """

    hosts: tuple[Host, ...]
    sessions: tuple[str, ...] = ("any",)
    at_random: bool = False

    @property
    def must_be_off(self) -> tuple[bytes, ...]:
        """What the server reports of itself, and makes a session useless if it is on."""
        return _MUST_BE_OFF.get(self.sessions[0], ())


def destination_of(conninfo: str, *, session: str = "any") -> Destination:
    """As libpq reads it, from its service file and the environment too.

    *session* is the target_session_attrs for a string without one.
    """
    read = _as_libpq_reads(conninfo)
    names, addresses, ports = ((read.get(key) or "").split(",") for key in ("host", "hostaddr", "port"))
    count = max(len(names), len(addresses))
    if any(len(each) != count and each != [""] for each in (names, addresses)) or len(ports) not in {
        1,
        count,
    }:
        return Destination(hosts=())
    each_of = (each if len(each) == count else each * count for each in (names, addresses, ports))
    hosts = [
        Host(name=name, address=address, port=port) for name, address, port in zip(*each_of, strict=True)
    ]
    wanted = read.get("target_session_attrs") or "any"
    if wanted == "any" and "target_session_attrs" not in conninfo_to_dict(conninfo):
        wanted = session  # libpq's default is `any`, and it does not tell who said so
    return Destination(
        hosts=tuple(hosts),
        # libpq does so in one connect: first for a standby alone, then for any server.
        sessions=("standby", "any") if wanted == "prefer-standby" else (wanted,),
        at_random=read.get("load_balance_hosts") == "random",
    )


def conninfo_to(conninfo: str, host: Host, address: str, *, session: str) -> bytes:
    """*conninfo* led to this one address, over whatever the environment says."""
    only = {"host": host.name, "hostaddr": address, "port": host.port, "target_session_attrs": session}
    return make_conninfo(conninfo, **only).encode()


def conninfo_of(url: str, setup: SessionSetup) -> str:
    """*url* with what each session of the sidecar needs. ConfigError where libpq cannot read it."""
    given = parameters_of(url)
    # A firewall drops idle connections: keepalive lets the kernel notice before a question does.
    ours = {"keepalives_idle": "30", "keepalives_interval": "5", "keepalives_count": "3"}
    ours |= {name: str(value) for name, value in given.items() if name in ours}
    ours |= {"client_encoding": "UTF8", "fallback_application_name": "sidecar"}
    if setup.startup_options:
        ours["options"] = f"{given.get('options') or ''} {setup.startup_options}".strip()
    return make_conninfo(url, **ours)


def parameters_of(url: str) -> dict[str, object]:
    """ConfigError where libpq cannot read *url*; in our words, since its own would show a password."""
    try:
        return dict(conninfo_to_dict(url))
    except Error:
        detail = "is not a connection string that libpq can read: expected postgresql://USER:PASSWORD@HOST/DATABASE"
    raise ConfigError(
        f"the database's URL {detail}", problems=(Problem(pointer="SIDECAR_DATABASE_URL", detail=detail),)
    )


def _as_libpq_reads(conninfo: str) -> dict[str, str]:
    # No such sslmode: libpq gives up before it opens a socket, but has read everything by then.
    pg = PGconn.connect_start(make_conninfo(conninfo, sslmode="none: only read").encode())
    try:
        return {each.keyword.decode(): each.val.decode() for each in pg.info if each.val is not None}
    finally:
        pg.finish()


def _numeric(address: str, _port: int, _flow: int = 0, scope: int = 0) -> str:
    return f"{address}%{scope}" if scope else address
