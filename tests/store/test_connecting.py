"""Which host is connected to, and how little a dead one or a dead name server holds up."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from time import monotonic
from urllib.parse import urlsplit

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sidecar.local.postgres import EmbeddedPostgres
from sidecar.store.addresses import Host, conninfo_to, destination_of
from sidecar.store.connecting import ADDRESS_TIMEOUT_S, CONNECT_TIMEOUT_S
from sidecar.store.session import Late, Lost
from tests.postgres_server import a_server_folder, run
from tests.servers import free_port
from tests.store.asking import GRACE_S, START, a_pool, ask
from tests.store.proxy import Proxy

pytestmark = pytest.mark.postgres

LONG_S = 10.0


def hosts_of(conninfo):
    return [(host.name, host.address, host.port) for host in destination_of(conninfo).hosts]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("conninfo", "hosts"),
    [
        ("host=a", [("a", "", "5432")]),
        ("host=a,b", [("a", "", "5432"), ("b", "", "5432")]),
        ("host=a,b port=1,2", [("a", "", "1"), ("b", "", "2")]),
        ("host=a,b port=1", [("a", "", "1"), ("b", "", "1")]),
        ("host=a,,/run port=1,2,", [("a", "", "1"), ("", "", "2"), ("/run", "", "")]),
        ("host=a,b hostaddr=1.2.3.4,::1", [("a", "1.2.3.4", "5432"), ("b", "::1", "5432")]),
        ("hostaddr=1.2.3.4,1.2.3.5 port=7", [("", "1.2.3.4", "7"), ("", "1.2.3.5", "7")]),
        ("postgresql://u@a:1,b:2/d", [("a", "", "1"), ("b", "", "2")]),
        ("postgresql://u@/d?host=%2Frun%2Fpg", [("/run/pg", "", "5432")]),
        ("postgresql://u@[::1]:7/d", [("::1", "", "7")]),
        ("dbname=d", [("", "", "5432")]),
        ("host=a,b port=1,2,3", []),
        ("host=a,b hostaddr=1.2.3.4", []),
        ("host=a hostaddr=1.2.3.4,1.2.3.5", []),
    ],
)
def test_hosts_are_those_that_libpq_would_try(conninfo, hosts):
    assert hosts_of(conninfo) == hosts


def test_hosts_come_from_the_environment_and_from_a_service_file_too(monkeypatch, tmp_path):
    (tmp_path / "services").write_text("[far]\nhost=a,b\nport=1,2\ntarget_session_attrs=primary\n")
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGHOST", "of-the-environment")

    assert hosts_of("dbname=d") == [("of-the-environment", "", "5432")]
    assert hosts_of("service=far") == [("a", "", "1"), ("b", "", "2")]
    assert hosts_of("service=far host=c,d") == [("c", "", "1"), ("d", "", "2")]
    assert destination_of("service=far").sessions == ("primary",)
    assert destination_of("host=a target_session_attrs=prefer-standby").sessions == ("standby", "any")
    assert destination_of("host=a load_balance_hosts=random").at_random


def test_a_service_that_is_not_there_is_an_outage_that_says_so():
    with a_pool("service=missing host=a.invalid") as pool:
        assert 'definition of service "missing" not found' in ask(pool, within_s=LONG_S).outage


def test_an_address_is_given_beside_the_name_that_a_certificate_is_for():
    host = Host(name="db.example", address="", port="7")
    led = conninfo_to("service=s sslmode=verify-full", host, "1.2.3.4", session="any")

    assert conninfo_to_dict(led.decode()) == {
        "service": "s",
        "sslmode": "verify-full",
        "host": "db.example",
        "hostaddr": "1.2.3.4",
        "port": "7",
        "target_session_attrs": "any",
    }


def test_a_name_is_resolved_to_numbers_and_a_folder_is_not():
    assert Host(name="127.0.0.1", address="", port="").addresses() == ["127.0.0.1"]
    assert Host(name="::1", address="", port="").addresses() == ["::1"]
    assert Host(name="fe80::1%1", address="", port="").addresses() == ["fe80::1%1"]
    assert set(Host(name="localhost", address="", port="").addresses()) <= {"127.0.0.1", "::1"}
    assert Host(name="never.asked", address="1.2.3.4", port="").addresses() == ["1.2.3.4"]
    assert [Host(name=name, address="", port="").addresses() for name in ("/run", "@abstract", "")] == [
        [""]
    ] * 3
    with pytest.raises((Lost, Late), match=r"no.such.name.invalid cannot be resolved"):
        Host(name="no.such.name.invalid", address="", port="").addresses()


@pytest.fixture
def deaf():
    """The port of a server that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def proxy(database_url):
    with Proxy(database_url) as proxy:
        yield proxy


def of_hosts(proxy, *hosts, **more):
    """The conninfo of *proxy*, with a list of hosts and ports instead of its own."""
    names, ports = (",".join(str(each) for each in column) for column in zip(*hosts, strict=True))
    return make_conninfo(proxy.url, host=names, port=ports, **more)


def test_a_silent_first_host_is_left_for_the_second_which_comes_first_from_then_on(proxy, deaf):
    with a_pool(of_hosts(proxy, ("127.0.0.1", deaf), ("127.0.0.1", proxy.port))) as pool:
        first = ask(pool, within_s=LONG_S)
        proxy.cut()
        again = ask(pool, within_s=LONG_S)

    assert (first.outage, again.outage) == ("", "")
    assert ADDRESS_TIMEOUT_S <= first.took_s < ADDRESS_TIMEOUT_S + GRACE_S
    assert again.took_s < ADDRESS_TIMEOUT_S


def test_a_first_host_that_refuses_is_left_at_once(proxy):
    with a_pool(of_hosts(proxy, ("127.0.0.1", free_port()), ("127.0.0.1", proxy.port))) as pool:
        answer = ask(pool, within_s=LONG_S)

    assert answer.ok
    assert answer.took_s < ADDRESS_TIMEOUT_S


def test_a_first_host_without_a_name_is_left_for_a_socket(database_url):
    sockets = conninfo_to_dict(database_url).get("host")
    if not str(sockets).startswith("/"):
        pytest.skip("needs a server on a Unix socket")
    port = conninfo_to_dict(database_url).get("port") or 5432
    url = make_conninfo(database_url, host=f"no.such.name.invalid,{sockets}", port=f"5432,{port}")
    with a_pool(url) as pool:
        assert ask(pool, within_s=30).ok


def test_hosts_that_are_only_slow_get_more_time_when_no_other_is_better(proxy):
    """Not before: 0.8 s are too short for a server that is far and busy."""
    proxy.lag_s = (ADDRESS_TIMEOUT_S + CONNECT_TIMEOUT_S) / 2
    with a_pool(of_hosts(proxy, ("127.0.0.1", proxy.port), ("127.0.0.1", free_port()))) as pool:
        answer = ask(pool, within_s=LONG_S)

    assert answer.ok
    assert answer.took_s > ADDRESS_TIMEOUT_S
    assert proxy.accepted == 2


def test_when_no_host_is_there_each_says_why(proxy, deaf):
    closed = free_port()
    with a_pool(of_hosts(proxy, ("127.0.0.1", closed), ("127.0.0.1", deaf))) as pool:
        answer = ask(pool, within_s=LONG_S)

    assert f"port {closed} failed: Connection refused" in answer.outage
    assert "did not let us in" in answer.outage
    assert answer.took_s < ADDRESS_TIMEOUT_S + CONNECT_TIMEOUT_S + GRACE_S


def test_a_list_that_libpq_cannot_take_is_explained_by_libpq(proxy):
    with a_pool(make_conninfo(proxy.url, host="a.invalid,b.invalid", port="1,2,3")) as pool:
        assert "could not match 3 port numbers to 2 hosts" in ask(pool, within_s=LONG_S).outage


@pytest.mark.parametrize(
    ("wanted", "outage"),
    [
        ("any", ""),
        ("primary", ""),
        ("read-write", ""),
        ("prefer-standby", ""),
        ("standby", "hot standby"),
        ("read-only", "read-only"),
        ("nonsense", "target_session_attrs"),
    ],
)
def test_a_session_is_the_wanted_one(proxy, wanted, outage):
    url = of_hosts(proxy, ("127.0.0.1", proxy.port), ("127.0.0.1", proxy.port), target_session_attrs=wanted)
    with a_pool(url) as pool:
        said = ask(pool, within_s=LONG_S).outage

    assert outage in said
    assert bool(said) == bool(outage)


def test_of_two_servers_the_one_that_writes_is_found(database_url):
    with a_server_folder() as folder, EmbeddedPostgres(folder) as reads:
        run(
            reads.url,
            "CREATE ROLE authz_sidecar",
            "ALTER SYSTEM SET default_transaction_read_only = on",
            "SELECT pg_reload_conf()",
        )
        with Proxy(reads.url) as first, Proxy(database_url) as second:
            hosts = ("127.0.0.1", first.port), ("127.0.0.1", second.port)
            for wanted, found in ({"read-only": first, "read-write": second}).items():
                url = of_hosts(first, *hosts, target_session_attrs=wanted, dbname="postgres")
                before = found.accepted
                with a_pool(url) as pool:
                    assert pool.answer(START, (), deadline=monotonic() + LONG_S)
                    assert found.accepted == before + 1
                    assert pool.answer(START, (), deadline=monotonic() + LONG_S)


def test_hosts_are_taken_at_random_where_the_url_says_so(proxy, database_url):
    with Proxy(database_url) as other:
        hosts = ("127.0.0.1", proxy.port), ("127.0.0.1", other.port)
        for _ in range(60):
            with a_pool(of_hosts(proxy, *hosts, load_balance_hosts="random")) as pool:
                assert ask(pool, within_s=LONG_S).ok
            if proxy.accepted and other.accepted:
                break

        assert proxy.accepted
        assert other.accepted


class TlsProxy(Proxy):
    """Speaks TLS, as PostgreSQL begins it, with a certificate of its own."""

    def __init__(self, url, folder, *, name):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate(folder, name=name))
        super().__init__(url)

    def _client(self, listener):
        client, _ = listener.accept()
        client.recv(8)  # SSLRequest
        client.sendall(b"S")
        try:
            return self._context.wrap_socket(client, server_side=True)
        except ssl.SSLError:  # the client does not like the certificate
            client.close()
            return self._client(listener)


def certificate(folder, *, name):
    of, key = folder / "certificate.pem", folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"),
            *("-addext", f"subjectAltName=DNS:{name}", "-out", of, "-keyout", key),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return of, key


@pytest.mark.parametrize(("name", "outage"), [("localhost", ""), ("elsewhere.example", "localhost")])
def test_the_certificate_must_be_that_of_the_name(database_url, tmp_path, name, outage):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    with TlsProxy(database_url, tmp_path, name=name) as proxy:
        of = {"sslmode": "verify-full", "sslrootcert": str(tmp_path / "certificate.pem")}
        with a_pool(make_conninfo(proxy.url, host="localhost", **of)) as pool:
            said = ask(pool, within_s=LONG_S).outage

    assert outage in said
    assert bool(said) == bool(outage)


NAMESPACE = ["unshare", "--net", "--mount"]
IN_A_NAMESPACE = """
mount --bind "$1/resolv.conf" /etc/resolv.conf && mount --bind "$1/hosts" /etc/hosts &&
exec "$2" -m tests.store.in_namespace "$3" "$4"
"""
only_root_has_namespaces = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root: a name server of its own is only in a network namespace"
)


def seen_in_a_namespace(folder, what, *, url="", hosts=""):
    (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    (folder / "hosts").write_text(hosts)
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("needs `unshare`, and the right to make a network namespace")
    command = [*NAMESPACE, "sh", "-c", IN_A_NAMESPACE, "sh", folder, sys.executable, what, url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.slow
@only_root_has_namespaces
def test_a_dead_name_server_holds_up_nobody_and_no_stop(tmp_path):
    """The resolver takes 10 s to give up."""
    began = monotonic()
    seen = seen_in_a_namespace(tmp_path, "dead")
    took_s = monotonic() - began

    assert "still connecting" in seen["first"]
    assert seen["asked the name server"]
    assert seen["longest pause"] < 0.5
    assert seen["longest question"] < 0.4 + 0.5
    assert seen["questions"] > 200
    assert seen["late"] <= 3 / 0.4 + 16
    assert seen["answered"] == 0
    assert seen["connectors"] <= 2
    assert took_s < 9


@only_root_has_namespaces
def test_a_silent_first_address_of_a_name_is_left_for_the_second(tmp_path, database_url):
    sockets = conninfo_to_dict(database_url).get("host")
    if not str(sockets).startswith("/"):
        pytest.skip("needs a server on a Unix socket")
    database = urlsplit(database_url)._replace(path="/postgres").geturl()
    hosts = "127.0.0.2 db.example\n127.0.0.1 db.example\n"
    seen = seen_in_a_namespace(tmp_path, "two", url=database, hosts=hosts)

    assert sorted(seen["addresses"]) == ["127.0.0.1", "127.0.0.2"]
    assert seen["outages"] == ["", ""]
    assert seen["seconds"][0] < ADDRESS_TIMEOUT_S + GRACE_S
    assert seen["seconds"][1] < ADDRESS_TIMEOUT_S
    assert seen["knocks at the silent one"] <= 1
