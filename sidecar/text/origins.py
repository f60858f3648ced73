"""Origins, as browsers write them in the header `Origin` (RFC 6454, serialized)."""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

_ORIGIN = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([1-9][0-9]{0,4}))?", re.ASCII)
_USUAL_PORT = {"http": "80", "https": "443"}
_HIGHEST_PORT = 65_535
_LONGEST_HOST, _LONGEST_LABEL = 253, 63


def fault_in_origin(text: str) -> str | None:
    """What is wrong with *text* as one origin; None where a browser may send exactly this."""
    if not text:
        return "is empty"
    if text == "null":
        return "is every page without an origin of its own, whoever wrote it"
    if "*" in text:
        return "has a wildcard: list each origin"
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return _fault_of_form(text)
    scheme, host, port = found.groups()
    if port is not None and int(port) > _HIGHEST_PORT:
        return "has no port that there is"
    if port == _USUAL_PORT[scheme]:
        return f"has a port that browsers leave out: {scheme}://{host}"
    return _fault_in_host(host)


def _fault_of_form(text: str) -> str:
    scheme, colon, rest = text.partition("://")
    if text != text.lower():
        return "is not in lower case"
    if not text.isascii():
        return "is not ASCII: browsers write such a host as xn--…"
    if not colon or scheme not in _USUAL_PORT:
        return "does not begin with https:// or http://"
    if "@" in rest:
        return "has a user"
    if rest.endswith("/") and rest.count("/") == 1:
        return "has a slash at its end"
    if any(mark in rest for mark in "/?#"):
        return "has a path"
    return "is no host with a port"


def _fault_in_host(host: str) -> str | None:
    if host.startswith("["):
        try:
            short = IPv6Address(host[1:-1]).compressed
        except AddressValueError:
            return "is no address"
        return None if host == f"[{short}]" else f"is written in another way by browsers: [{short}]"
    labels = host.removesuffix(".").split(".")
    if len(host) > _LONGEST_HOST or any(not 0 < len(label) <= _LONGEST_LABEL for label in labels):
        return "is no host name"
    if labels[-1].isdecimal() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):  # browsers read it as an address
        try:
            IPv4Address(host)
        except AddressValueError:
            return "is no address"
    return None
