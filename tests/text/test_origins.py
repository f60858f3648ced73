from __future__ import annotations

import pytest

from sidecar.text.origins import fault_in_origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://app.example.com",
        "http://localhost:5173",
        "http://localhost",
        "https://app.example.com:8443",
        "https://xn--bcher-kva.example",
        "http://192.168.1.20:3000",
        "http://[::1]:5173",
        "https://a_b.example.com",
        "https://example.com.",
        "https://app.example.com:65535",
    ],
)
def test_what_a_browser_sends_is_an_origin(origin):
    assert fault_in_origin(origin) is None


@pytest.mark.parametrize(
    ("origin", "fault"),
    {
        "": "is empty",
        "*": "wildcard",
        "https://*.example.com": "wildcard",
        "http://localhost:*": "wildcard",
        "null": "without an origin",
        "https://app.example.com/": "slash at its end",
        "https://app.example.com/app": "path",
        "https://app.example.com/app/": "path",
        "https://app.example.com?a": "path",
        "https://app.example.com#a": "path",
        "https://App.example.com": "lower case",
        "HTTPS://app.example.com": "lower case",
        "https://b\u00fccher.example": "xn--",
        "app.example.com": "does not begin with",
        "//app.example.com": "does not begin with",
        "ftp://app.example.com": "does not begin with",
        "file://": "does not begin with",
        "https://user@app.example.com": "a user",
        "https://": "no host",
        "https://app.example.com:": "no host",
        "https://app.example.com:0": "no host",
        "https://app.example.com:080": "no host",
        "https://app.example.com:65536": "no port that there is",
        "https://app.example.com:443": "leave out: https://app.example.com",
        "http://app.example.com:80": "leave out: http://app.example.com",
        "https://app..example.com": "no host name",
        "https://.example.com": "no host name",
        f"https://{'a' * 64}.example.com": "no host name",
        f"https://{'a.' * 127}com": "no host name",
        "http://127.1": "no address",
        "http://1.2.3.0x4": "no address",
        "http://256.1.1.1": "no address",
        "http://[::0]": "[::]",
        "http://[1:2]": "no address",
        "https://app.example.com b.example.com": "no host",
        "https://app.example.com;b.example.com": "no host",
        "https://app.example.com\t": "no host",
    }.items(),
)
def test_what_no_browser_sends_is_told_with_what_is_wrong(origin, fault):
    found = fault_in_origin(origin)

    assert found is not None
    assert fault in found
