"""Heads that the lane recognizes: plain requests for hot endpoints, and nothing else.

This is no parser of HTTP. A head is taken if every octet of it is as the common clients write it; about
anything else gunicorn's parser decides. So the two can only differ where this one says no.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from sidecar.api.audience import Audience
from sidecar.api.varying import apart
from sidecar.serving.application import is_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.api.endpoint import Endpoint
    from sidecar.api.plain import Alike
    from sidecar.api.varying import Varying
    from sidecar.serving.application import Addressed, Application

END = b"\r\n\r\n"
MOST_FIELDS = 1_000
LARGEST = 64 * 1024  # bytes; a longer head is gunicorn's to read
_LONGEST_LINE = 8_192
_MOST_KEPT, _MOST_SEEN = 2_048, 8_192
_MOST_FIELDS_KEPT = 100  # so that those that vary make it never too many
_LARGEST_KEPT, _MOST_KEPT_BYTES = 4_096, 2 * 1_024 * 1_024
_FIRST_LINE = re.compile(r"([A-Z-]{3,20}) (/[!-~]*) HTTP/1\.([01])", re.ASCII)
_NAMES = re.compile(r"(?:[!#$%&'*+.^`|~A-Za-z0-9-]+\n)*", re.ASCII)  # tokens, but for those with _
_LINES = re.compile(rb"(?:[!#$%&'*+.^`|~A-Za-z0-9-]+:[\t -~\x80-\xff]*\r\n)*")  # of fields, whole ones
_CONTROLS = bytes(octet for octet in (*range(32), 127) if octet not in b"\t\r\n")
_LENGTH = re.compile(r"[0-9]{1,8}", re.ASCII)
# What changes how a message is read or answered, beyond what is done about it here.
_ODD = frozenset({"transfer-encoding", "upgrade"})
# About a body, and of no effect without one: gateways leave the client's body out and pass these on.
_OF_A_BODY = frozenset({"expect", "content-encoding"})
_ONCE = frozenset({"host", "content-length", "content-type", "connection"})
_KEEPS = {"keep-alive": True, "close": False}


class Fields(NamedTuple):
    """Values by name, in lower case; of several lines all, with commas between. *repeated*: their names."""

    by_name: Mapping[str, str]
    repeated: frozenset[str]


class Head:
    """*length* is of the body, in bytes; *keeps*: the connection stays; *sent_id* is the request's own.

    Its endpoint takes a body as long as that. *is_json*: the body is said to be JSON. *alike* is of its plain
    requests; None where it has none.
    """

    __slots__ = (
        "addressed",
        "alike",
        "endpoint",
        "fields",
        "is_1_0",
        "is_json",
        "keeps",
        "length",
        "method",
        "sent_id",
    )

    def __init__(
        self,
        *,
        method: str,
        fields: Fields,
        endpoint: Endpoint,
        length: int,
        keeps: bool,
        is_1_0: bool,
        is_json: bool,
        addressed: Addressed,
    ) -> None:
        self.method = method
        self.fields = fields
        self.endpoint = endpoint
        self.length = length
        self.keeps = keeps
        self.is_1_0 = is_1_0
        self.is_json = is_json
        self.addressed = addressed
        self.sent_id = addressed.sent_id(self.header("X-Request-ID") or "")
        self.alike: Alike | None = None

    def header(self, name: str) -> str | None:
        return self.fields.by_name.get(name.lower())

    def with_lines(self, varying: Varying) -> Head | None:
        """The same with these lines more; None if it has one of them already."""
        fields = self.fields.by_name
        if not varying.keys().isdisjoint(fields):
            return None
        head = Head(
            method=self.method,
            fields=Fields({**fields, **varying}, self.fields.repeated),
            endpoint=self.endpoint,
            length=self.length,
            keeps=self.keeps,
            is_1_0=self.is_1_0,
            is_json=self.is_json,
            addressed=self.addressed,
        )
        head.alike = self.alike
        return head


class Heads:
    """Those of one worker's connections of one kind: *by_socket*, or not.

    Most clients send the same head again and again, but for the lines that vary: some are kept.
    """

    def __init__(self, application: Application, *, by_socket: bool) -> None:
        self._application = application
        self._by_socket = by_socket
        self._kept: dict[bytes, Head] = {}
        self._kept_bytes = 0  # of their texts; what was made of them is some times as much
        self._seen: set[int] = set()
        self._callers = application.service.callers
        self._of = self._callers.generation  # which callers the kept heads tell of

    def head(self, raw: bytes) -> Head | None:
        """What *raw* says, its blank line included; None where it is not for the lane."""
        kept = self.kept(raw)
        if kept is not None:
            return kept
        head = self._recognized(raw)
        if head is not None:
            again, _ = apart(raw)
            is_small = len(again) <= _LARGEST_KEPT and len(head.fields.by_name) <= _MOST_FIELDS_KEPT
            if is_small and not head.fields.repeated and self._comes_again(again):
                self._keep(again, head if again is raw else self._recognized(again))
        return head

    def kept(self, raw: bytes) -> Head | None:
        """As `head`, of one that came before, but for lines that vary, and is kept; None of any other."""
        if self._of is not self._callers.generation:
            self._of = self._callers.generation
            self._drop_kept()
        head = self._kept.get(raw)
        if head is None and self._kept:
            again, varying = apart(raw)
            if varying and (like := self._kept.get(again)) is not None:
                return like.with_lines(varying)
        return head

    def _comes_again(self, raw: bytes) -> bool:
        """What comes once only, since it has an id or a path of its own, is not worth the memory."""
        mark = hash(raw)
        if mark in self._seen:
            return True
        if len(self._seen) >= _MOST_SEEN:
            self._seen.clear()
        self._seen.add(mark)
        return False

    def _keep(self, raw: bytes, head: Head | None) -> None:
        if head is None:
            return
        if len(self._kept) >= _MOST_KEPT or self._kept_bytes + len(raw) > _MOST_KEPT_BYTES:
            self._drop_kept()
        self._kept[raw] = head
        self._kept_bytes += len(raw)

    def _drop_kept(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0

    def may_become_one(self, begun: bytes, *, seen: int) -> bool:
        """Whether more may make a head for the lane of *begun*, in which its end is not yet.

        False for whatever gunicorn's parser refuses without waiting for the end. *seen*: so many bytes of it
        were there when this was asked before; the fields in these are not looked at again.
        """
        first, ended, _ = begun.partition(b"\r\n")
        if not ended:
            return b"\n" not in first and len(first) <= _LONGEST_LINE
        found = _FIRST_LINE.fullmatch(first.decode("latin-1"))
        if found is None or self._application.hot(found[1], found[2]) is None:
            return False
        start = max(begun.rfind(b"\r\n", 0, seen), len(first)) + 2
        stop = begun.rfind(b"\r\n") + 2
        return (
            _LINES.fullmatch(begun, start, stop) is not None
            and begun.find(b"\n", stop) < 0
            and begun.count(b"\n") <= MOST_FIELDS + 1
            and len(begun) <= LARGEST
        )

    def _recognized(self, raw: bytes) -> Head | None:
        first, *lines = raw[: -len(END)].decode("latin-1").split("\r\n")
        ends = len(lines) + 2
        if (
            len(raw) > LARGEST
            or len(lines) > MOST_FIELDS
            or raw.count(b"\r") != ends
            or raw.count(b"\n") != ends
            or len(raw.translate(None, _CONTROLS)) != len(raw)
        ):
            return None
        found = _FIRST_LINE.fullmatch(first)
        endpoint = None if found is None else self._application.hot(found[1], found[2])
        if found is None or endpoint is None:
            return None
        method, target, minor = found.groups()
        found_fields = _fields_in(lines)
        if found_fields is None:
            return None
        fields = found_fields.by_name
        length = fields.get("content-length", "0")
        connection = fields.get("connection", "").lower()
        is_1_0 = minor == "0"
        keeps = _KEEPS.get(connection, not is_1_0)
        if (
            method == "CONNECT"  # after which gunicorn's protocol ends the connection
            or not fields.get("host")
            or not _ODD.isdisjoint(fields)
            or (connection and connection not in _KEEPS)
            or not _LENGTH.fullmatch(length)
            or (not _OF_A_BODY.isdisjoint(fields) and length.strip("0"))
        ):
            return None

        def header(name: str) -> str | None:
            return fields.get(name.lower())

        addressed = self._application.addressed(target, header=header, by_socket=self._by_socket)
        if int(length) > self._application.largest_body(addressed, endpoint):
            return None
        of_json = is_json(header)
        head = Head(
            method=method,
            fields=found_fields,
            endpoint=endpoint,
            length=int(length),
            keeps=keeps,
            is_1_0=is_1_0,
            is_json=of_json,
            addressed=addressed,
        )
        if keeps and not is_1_0:
            head.alike = self._alike(head, target)
        return head

    def _alike(self, head: Head, target: str) -> Alike | None:
        addressed, plain = head.addressed, self._application.plain
        if head.endpoint.audience is not Audience.GATEWAYS:
            return plain.alike_in_bodies(
                head.endpoint, caller=addressed.caller, query=addressed.query, is_json=head.is_json
            )
        if head.fields.repeated:
            return None
        return plain.alike_from_gateway(
            head.endpoint, method=head.method, target=target, by_socket=self._by_socket
        )


def _fields_in(lines: list[str]) -> Fields | None:
    """As gunicorn's protocol has them.

    None if a line is none that the lane knows, or one is repeated that may not be.
    """
    fields: dict[str, str] = {}
    repeated: set[str] = set()
    names = ""
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            return None
        names += f"{name}\n"
        key, value = name.lower(), value.strip(" \t")
        if key in fields:
            if key in _ONCE:
                return None
            repeated.add(key)
            value = f"{fields[key]},{value}"
        fields[key] = value
    if not _NAMES.fullmatch(names):
        return None
    return Fields(fields, frozenset(repeated))
