"""The policy engine: OPA, asked over its REST API on loopback or a Unix socket, through opa_client.

opa_client builds the query; what is under it is ours, because its defaults would retry, follow proxies and
redirects, and wait for each byte anew. docs/decisions/0005-never-retry-opa.md says why there are
no retries.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from http import HTTPStatus
from http.client import HTTPException, RemoteDisconnected
from itertools import islice
from threading import local
from time import monotonic
from typing import TYPE_CHECKING, Any

import requests
import urllib3
from opa_client.opa import OpaClient
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection

from sidecar.engines.sockets import addresses_of, connect
from sidecar.engines.verdict import ENTRYPOINT, NOBODY, named_revision, verdict_from
from sidecar.errors import ConfigError, EngineMisbehaved, EngineUnavailable
from sidecar.rego.beside import own_name, own_ref

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sidecar.decisions.model import Verdict
    from sidecar.engines.sockets import Addresses

_LONGEST_WAIT_S = 60.0  # a socket takes no infinity
_NOTHING = object()
_AT_ONCE = 500  # situations in one query: its answer is a sixth of the longest that is read
_BULK = (
    "verdicts := {{position: verdict | some position, situation in input;"
    " verdict := {} with input as situation}}"
)


class OpaEngine:
    name = "opa"

    def __init__(self, url: str, *, revision: str) -> None:
        """*url* is ``http://HOST:PORT`` or ``unix:///PATH``; it is connected to by the first question."""
        self.revision = revision
        self._url = url
        self._own = own_name(ENTRYPOINT, revision)
        try:
            self._addresses = addresses_of(url)
        except ValueError as error:
            raise ConfigError(f"{url!r} is no address of OPA: {error}") from error
        # requests promises nothing about threads: each has its own session, and its own one connection.
        self._of_this_thread = local()

    def verdict(self, situation: bytes, /, *, deadline: float) -> Verdict:
        return verdict_from(self._decision(situation, deadline=deadline), revision=self.revision)

    def served_revision(self, *, deadline: float) -> str:
        """The revision by which OPA answers us now: another than this process's if it has not that."""
        return named_revision(self._decision(NOBODY, deadline=deadline))

    def _decision(self, situation: bytes, *, deadline: float) -> object:
        """By our own revision, which stands beside others; else by the plain name, whatever that is of.

        An OPA may have been given a bundle without names of revisions, or allow the plain path alone.
        """
        found = self._found(self._own, situation, deadline=deadline)
        return self.document(ENTRYPOINT, situation, deadline=deadline) if found is _NOTHING else found

    def verdicts(self, situations: Iterable[bytes], /, *, deadline: float) -> Iterator[tuple[bytes, Verdict]]:
        """Each situation with its verdict, in order and as they come: many in one query.

        An error is raised after the verdicts that came before it. Where OPA does not answer the query (its
        own authorization may forbid it, or one situation has no verdict), it is asked one by one.
        """
        rest = iter(situations)
        entrypoints = [own_ref(ENTRYPOINT, self.revision), ENTRYPOINT]
        while batch := list(islice(rest, _AT_ONCE)):
            documents: list[object] | None = None
            while entrypoints and not documents:
                try:
                    documents = self._documents(entrypoints[0], batch, deadline=deadline)
                except EngineMisbehaved:
                    entrypoints.clear()
                else:
                    if not documents:
                        del entrypoints[0]
            for position, situation in enumerate(batch):
                document = documents[position] if documents else self._decision(situation, deadline=deadline)
                yield situation, verdict_from(document, revision=self.revision)

    def document(self, rule: str, given: bytes, /, *, deadline: float) -> object:
        found = self._found(rule, given, deadline=deadline)
        if found is _NOTHING:
            raise EngineMisbehaved(f"{rule} is undefined at {self._url}: is the bundle loaded?")
        return found

    def _found(self, rule: str, given: bytes, *, deadline: float) -> object:
        """_NOTHING where *rule* is undefined."""
        try:
            with self._asking(deadline) as client:
                answer = client.query_rule(given, rule.removeprefix("data."))
        except EngineMisbehaved as error:
            if rule == self._own and isinstance(error.__cause__, _Forbidden):
                return _NOTHING
            raise
        match answer:
            case {"result": result}:
                return result
            case {}:
                return _NOTHING
            case _:
                raise EngineMisbehaved(f"OPA at {self._url} did not answer as OPA does: no object")

    def close(self) -> None:
        """Close this thread's connection; the next question opens another."""
        self._client().close_connection()
        del self._of_this_thread.client

    def _documents(self, entrypoint: str, situations: list[bytes], *, deadline: float) -> list[object]:
        """The entrypoint's result for each, by one query; empty if it is undefined for all.

        EngineMisbehaved if one is missing.
        """
        with self._asking(deadline) as client:
            answer = client.ad_hoc_query(_BULK.format(entrypoint), b"[" + b",".join(situations) + b"]")
        match answer:
            case {"result": [{"verdicts": dict(found)}]} if len(found) in {0, len(situations)}:
                try:
                    return [found[str(position)] for position in range(len(found))]
                except KeyError as error:
                    raise EngineMisbehaved(f"OPA at {self._url} left out situation {error}") from error
            case _:
                raise EngineMisbehaved(f"OPA at {self._url} did not answer about every situation")

    @contextmanager
    def _asking(self, deadline: float) -> Iterator[_Client]:
        """The client; its errors are raised as our own."""
        client = self._client()  # first: to make one takes its time
        left_s = self._time_left(deadline)
        client.timeout = urllib3.Timeout(total=min(left_s, _LONGEST_WAIT_S))
        try:
            yield client
        except (
            requests.HTTPError,
            requests.exceptions.ContentDecodingError,
            ValueError,
            RecursionError,
        ) as error:
            # ValueError is the common base of all errors about JSON, text and headers.
            raise EngineMisbehaved(f"OPA at {self._url} did not answer as OPA does: {error}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise EngineUnavailable(f"OPA at {self._url} did not answer: {_first_cause(error)}") from error
        self._time_left(deadline)

    def _client(self) -> _Client:
        try:
            client: _Client = self._of_this_thread.client
        except AttributeError:
            client = self._of_this_thread.client = _Client(self._addresses)
        return client

    def _time_left(self, deadline: float) -> float:
        """In seconds, more than 0; EngineUnavailable if there is none."""
        left_s = deadline - monotonic()
        if left_s <= 0:
            raise EngineUnavailable(f"no time was left for OPA at {self._url} to answer")
        return left_s


class _Forbidden(requests.HTTPError):
    """OPA's own authorization allows this path to nobody, or not to us."""


class _Client(OpaClient):  # type: ignore[misc] # opa_client has no types
    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        super().__init__(host="localhost", retries=0)

    def _init_session(self) -> requests.Session:
        session = _Session()
        session.mount("http://", _Adapter(self._addresses))
        return session


class _Session(requests.Session):
    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # ignore proxy variables and .netrc on loopback
        self.headers = requests.structures.CaseInsensitiveDict(
            {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        )

    def post(  # type: ignore[override] # as OpaClient calls it, and no other way
        self, url: str, *, json: dict[str, Any], timeout: urllib3.Timeout
    ) -> requests.Response:
        """Send the input byte for byte: what is cached and logged is what OPA has seen."""
        body = b"{" + _query_in(json) + b'"input":' + json["input"] + b"}"
        response = super().post(
            url,
            data=body,
            timeout=timeout,  # type: ignore[arg-type] # HTTPAdapter.send takes it, only its types do not
            allow_redirects=False,
        )
        if response.status_code != HTTPStatus.OK:
            is_forbidden = response.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
            raise (_Forbidden if is_forbidden else requests.HTTPError)(
                f"status {response.status_code}, {response.content[:200]!r}"
            )
        response.content.decode()  # UnicodeDecodeError: requests would guess another encoding
        response.encoding = "utf-8"
        return response


def _query_in(asked: dict[str, Any]) -> bytes:
    return b'"query":' + json.dumps(asked["query"]).encode() + b"," if "query" in asked else b""


class _Adapter(HTTPAdapter):
    """Every URL leads to the one address, by the one connection that a thread needs.

    Before it is used again urllib3 looks whether OPA has closed it meanwhile, and opens another: that is
    no retry, nothing had been sent.
    """

    def __init__(self, addresses: Addresses) -> None:
        super().__init__(max_retries=0)
        self._pool = urllib3.HTTPConnectionPool("localhost", maxsize=1, addresses=addresses)
        self._pool.ConnectionCls = _Connection

    def close(self) -> None:
        self._pool.close()
        super().close()

    def get_connection_with_tls_context(self, *_: object, **__: object) -> urllib3.HTTPConnectionPool:
        return self._pool


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, addresses: Addresses, **options: Any) -> None:  # noqa: ANN401 - as the pool makes it
        super().__init__(*args, **options)
        self._addresses = addresses

    def connect(self) -> None:
        self.sock = connect(self._addresses, within_s=self.timeout or 0)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override] # as in the base class
        try:
            return super().getresponse()
        except RemoteDisconnected:
            raise
        except HTTPException as error:
            raise EngineMisbehaved(f"what answers there does not speak HTTP: {error!r}") from error


def _first_cause(error: BaseException) -> BaseException:
    """The cause under the errors of urllib3 and requests ("Max retries exceeded", though there are none)."""
    while error.__context__:
        error = error.__context__
    return error
