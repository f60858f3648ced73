"""Run by test_connecting.py in a network namespace with names of its own: prints what it saw."""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import sys
import threading
from time import monotonic, sleep

from tests.store.asking import DEADLINE_S, a_pool, ask, asking
from tests.store.proxy import Proxy

SIOCSIFFLAGS, IFF_UP = 0x8914, 1  # of Linux: see netdevice(7)


def with_a_dead_name_server(_: str) -> dict[str, object]:
    with socket.socket(type=socket.SOCK_DGRAM) as dead:
        dead.bind(("127.0.0.1", 53))
        pauses = [0.0]
        over = threading.Event()
        ticks = threading.Thread(target=_measure_pauses, args=(pauses, over))
        ticks.start()
        with a_pool("postgresql://postgres@db.example/x") as pool:
            first = ask(pool)
            with asking(pool, threads=16) as answers:
                sleep(3)
                connectors = sum(each.name == "postgres-connector" for each in threading.enumerate())
            over.set()
            ticks.join()
            dead.settimeout(0)
            return {
                "first": first.outage,
                "asked the name server": len(dead.recv(512)) > 0,
                "longest pause": max(pauses),
                "longest question": max(each.took_s for each in answers),
                "late": sum(each.took_s > DEADLINE_S / 2 for each in answers),
                "answered": sum(each.ok for each in answers),
                "questions": len(answers),
                "connectors": connectors,
            }


def with_two_addresses(url: str) -> dict[str, object]:
    """Of one name: the first accepts and says nothing."""
    with Proxy(url) as proxy, socket.create_server(("127.0.0.2", proxy.port)) as deaf:
        found = [each[4][0] for each in socket.getaddrinfo("db.example", None, type=socket.SOCK_STREAM)]
        with a_pool(f"postgresql://postgres@db.example:{proxy.port}/postgres") as pool:
            first = ask(pool, within_s=5)
            proxy.cut()
            again = ask(pool, within_s=5)
        deaf.settimeout(0)
        knocks = 0
        try:
            while True:
                deaf.accept()[0].close()
                knocks += 1
        except BlockingIOError:
            pass
        return {
            "addresses": found,
            "outages": [first.outage, again.outage],
            "seconds": [first.took_s, again.took_s],
            "knocks at the silent one": knocks,
        }


def _measure_pauses(pauses: list[float], over: threading.Event) -> None:
    """How long this thread did not run: the interpreter's lock may be held by another one."""
    last = monotonic()
    while not over.wait(0.01):
        now = monotonic()
        pauses.append(now - last)
        last = now


def _start_loopback() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


if __name__ == "__main__":
    _start_loopback()
    what = {"dead": with_a_dead_name_server, "two": with_two_addresses}[sys.argv[1]]
    sys.stdout.write(json.dumps(what(sys.argv[2])))
