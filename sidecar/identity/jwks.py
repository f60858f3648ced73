"""The identity provider's keys, fetched over HTTP behind the back of whoever waits for them.

A request never fetches: it takes what is there, and waits at most until its own deadline for a fetch that
somebody began. The provider may be down for an hour before anybody notices; what it no longer publishes is
gone after the next fetch.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Condition, Thread, Timer
from time import monotonic
from typing import TYPE_CHECKING, Generic, TypeVar
from urllib.parse import urlsplit

from sidecar.errors import IdentityUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

Keys = TypeVar("Keys")

LARGEST_ANSWER = 256 * 1024
_MOST_WAITING = 2  # of a worker's threads: tokens with made-up key ids must not stop it

_log = logging.getLogger("sidecar")


class NotKeys(Exception):
    """What came is not a set of keys; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """*fresh_s*: when to look again; *usable_s*: how long keys are good while the provider is silent.

    *pause_s* is at least between two fetches, whoever wants one; *within_s* is how long one may take.
    """

    fresh_s: float = 300.0
    usable_s: float = 3_600.0
    pause_s: float = 5.0
    within_s: float = 5.0


class RemoteKeys(Generic[Keys]):
    """What *read* makes of the answer at *url*; it raises NotKeys for what it cannot use."""

    def __init__(self, url: str, /, *, read: Callable[[bytes], Keys], pace: Pace | None = None) -> None:
        self._url = url
        self._read = read
        self._pace = pace or Pace()
        self._changed = Condition()
        self._keys: Keys | None = None
        self._of = self._tried = float(
            "-inf"
        )  # when the keys that we have, and the last ones, were asked for
        self._fetching = False
        self._waiting = 0
        self._trouble = "they were not fetched yet"
        self._is_told = False

    def start(self) -> None:
        """In the worker, so that the first user finds them there."""
        with self._changed:
            self._fetch_if_due()

    def at_hand(self) -> Keys | None:
        """As `current`, without waiting; None when there are none, or only such as are too old."""
        with self._changed:
            if self._age() > self._pace.fresh_s:
                self._fetch_if_due()
            return None if self._age() > self._pace.usable_s else self._keys

    def current(self, *, deadline: float) -> Keys:
        """IdentityUnavailable when there are none, or only such as are too old."""
        with self._changed:
            if self._age() > self._pace.fresh_s:
                self._fetch_if_due()
            if self._keys is None or self._age() > self._pace.usable_s:
                self._wait(deadline)
            if self._keys is None or self._age() > self._pace.usable_s:
                raise IdentityUnavailable(f"the keys at {self._url} cannot be had: {self._trouble}")
            return self._keys

    def newest(self, *, deadline: float) -> Keys:
        """As they were a moment ago at most, for a token by a key that nobody knows.

        IdentityUnavailable when that cannot be found out: it may be a key that the provider just made.
        """
        with self._changed:
            wanted = monotonic() - self._pace.pause_s
            if self._of < wanted:
                self._fetch_if_due()
                self._wait(deadline)
            if self._keys is None or self._of < wanted:
                raise IdentityUnavailable(f"whether {self._url} has new keys is not known: {self._trouble}")
            return self._keys

    def _age(self) -> float:
        return monotonic() - self._of

    def _fetch_if_due(self) -> None:
        if not self._fetching and monotonic() - self._tried >= self._pace.pause_s:
            self._fetching = True
            self._tried = monotonic()
            Thread(target=self._fetch, name="identity-keys", daemon=True).start()

    def _wait(self, deadline: float) -> None:
        """For the fetch that is under way, if there is one."""
        if self._waiting == _MOST_WAITING:
            return
        self._waiting += 1
        try:
            # Up to a minute: more than any fetch, and less than a lock can wait.
            self._changed.wait_for(lambda: not self._fetching, min(deadline - monotonic(), 60.0))
        finally:
            self._waiting -= 1

    def _fetch(self) -> None:
        asked = monotonic()
        keys, trouble = None, ""
        try:
            keys = self._read(answer_at(self._url, within_s=self._pace.within_s))
        except NotKeys as error:
            trouble = str(error)
        finally:
            with self._changed:
                if trouble and trouble != self._trouble:
                    _log.warning("the identity provider's keys at %s: %s", self._url, trouble)
                    self._is_told = True
                elif not trouble and self._is_told:
                    _log.info("the identity provider's keys at %s are there again", self._url)
                    self._is_told = False
                self._trouble = trouble
                if keys is not None:
                    self._keys, self._of = keys, asked
                self._fetching = False
                self._changed.notify_all()


def answer_at(url: str, *, within_s: float) -> bytes:
    """NotKeys unless a whole answer of a sensible size came in time. Redirects are not followed."""
    ending = monotonic() + within_s
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=within_s)
    try:
        connection.connect()
        # A timeout is of each read: whoever sends a byte a second would never meet it.
        cutter = Timer(max(0.0, ending - monotonic()), _cut, [connection.sock])
        cutter.daemon = True
        cutter.start()
        try:
            target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
            connection.request("GET", target, headers={"Accept": "application/json", "Connection": "close"})
            response = connection.getresponse()
            body = response.read(LARGEST_ANSWER + 1)
        finally:
            cutter.cancel()
    except (OSError, HTTPException) as error:
        late = monotonic() >= ending
        raise NotKeys(f"no answer within {within_s:g} s" if late else f"no answer: {error!r}") from error
    finally:
        connection.close()
    if response.status != HTTPStatus.OK:
        raise NotKeys(f"answered {response.status}")
    if len(body) > LARGEST_ANSWER:
        raise NotKeys(f"more than {LARGEST_ANSWER} bytes")
    return body


def _cut(connection: socket.socket) -> None:
    # Not the method of a TLS socket, which would take its state away from the thread that reads.
    with suppress(OSError):  # already at its end
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
