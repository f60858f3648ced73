"""Who looks at the console: a signed cookie names a caller's token by a keyed hash; forms have tokens too."""

from __future__ import annotations

import hmac
import json
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from time import time
from typing import TYPE_CHECKING

from sidecar.identity.callers import digest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sidecar.identity.callers import Caller, Callers

LASTS_S = 8 * 3600
SCOPES = frozenset({"admin", "audit"})
_NONCE_BYTES = 16
_LONGEST_COOKIE = 1_024


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """*caller* is None before somebody has signed in: then it only ties their form to their browser."""

    cookie: str
    form_token: str
    caller: Caller | None


class Sessions:
    """*secret* signs; *callers* are those whose tokens are known now."""

    def __init__(self, secret: bytes, callers: Callers) -> None:
        self._secret = secret
        self._known = callers
        self._named: tuple[object, Mapping[str, Caller]] = (None, {})

    @property
    def _callers(self) -> Mapping[str, Caller]:
        """By the keyed hash that a cookie has; made anew once the tokens are others."""
        of, named = self._named
        digests = self._known.digests
        if of is not digests:
            named = {self._mac("token", digest): caller for digest, caller in digests.items()}
            self._named = (digests, named)
        return named

    def unsigned(self) -> Session:
        """Of somebody who has not signed in."""
        return self._made("", None)

    def signed_in(self, token: str) -> Session | None:
        """None where nobody has *token*. Its caller may lack the scopes."""
        name = self._mac("token", digest_of(token))
        caller = self._callers.get(name)
        return None if caller is None else self._made(name, caller)

    def by_once(self) -> Session | None:
        """Of the first caller who may look: for who proves otherwise that the server is theirs."""
        for name, caller in self._callers.items():
            if caller.scopes & SCOPES:
                return self._made(name, caller)
        return None

    def of(self, cookie: str | None) -> Session | None:
        """None for a cookie that we did not sign, that has expired, or whose token is gone from its file."""
        if not cookie or len(cookie) > _LONGEST_COOKIE:
            return None
        payload, _, signature = cookie.rpartition(".")
        if not hmac.compare_digest(self._mac("cookie", payload).encode(), signature.encode()):
            return None
        said = json.loads(urlsafe_b64decode(payload))
        if not 0 <= time() - said["at"] <= LASTS_S:
            return None
        caller = self._callers.get(said["token"])
        if said["token"] and (caller is None or not caller.scopes & SCOPES):
            return None
        return Session(cookie=cookie, form_token=self._mac("form", payload), caller=caller)

    def _made(self, name: str, caller: Caller | None) -> Session:
        said = {"at": int(time()), "token": name, "nonce": secrets.token_urlsafe(_NONCE_BYTES)}
        payload = urlsafe_b64encode(json.dumps(said).encode()).decode()
        cookie = f"{payload}.{self._mac('cookie', payload)}"
        return Session(cookie=cookie, form_token=self._mac("form", payload), caller=caller)

    def _mac(self, purpose: str, text: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{text}".encode(), sha256).hexdigest()
