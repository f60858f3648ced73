"""Who the end user is: what the identity provider's JWT says, once its signature and its dates are right."""

from __future__ import annotations

import json
import re
import time
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from sidecar.errors import ConfigError, Problem, UnknownUser
from sidecar.identity.jwks import NotKeys, RemoteKeys
from sidecar.identity.refusals import document_in, unverified_claims, why_not_valid
from sidecar.text.emails import LONGEST_EMAIL
from sidecar.text.shapes import fault_in_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.decisions.model import Json
    from sidecar.errors import ClockSkew
    from sidecar.settings import Settings

# What a key can be used for follows from what it is: never a public key as the secret of an HMAC.
_ALGORITHMS = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
_SECRET = "HS256"  # noqa: S105 - the name of an algorithm
_SHORTEST_SECRET = 32
_SKEW_S = 10
_REMEMBERED_S = 30.0
# As long as the tombstone of a deleted user stands (migration 0040): no token outlives it.
_LONGEST_LIFE_S = 30 * 24 * 60 * 60
_EMAIL_CLAIM = "email_verified"
# How somebody signed in who was reached at their address, or whose address another provider has verified.
_PROVING_METHODS = frozenset({"otp", "magiclink", "oauth"})
_MOST_REMEMBERED = 2_048
_MOST_TRIED = 16  # keys for one token: a set may have hundreds, and each is some microseconds of a thread
_VERIFIED_ALL_THE_SAME = ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub")
_DATES = ("exp", "nbf", "iat")
_LAST_DATE = 253_402_300_799  # the end of year 9999, in seconds since 1970
_BEARER = re.compile(
    r"[Bb][Ee][Aa][Rr][Ee][Rr] +(([A-Za-z0-9_-]{1,4096})\.([A-Za-z0-9_-]{1,32768})\.[A-Za-z0-9_-]{1,2048})",
    re.ASCII,
)

KeySet = dict[tuple[str | None, str], tuple[jwt.PyJWK, ...]]  # by key id and algorithm


@dataclass(frozen=True, slots=True, kw_only=True)
class EndUser:
    """*id* is the token's `sub`. *email* is not to be trusted unless it is verified."""

    id: str
    email: str | None
    email_verified: bool
    claims: Mapping[str, Json]


class KeySource(Protocol):
    def start(self) -> None: ...

    def at_hand(self) -> KeySet | None:
        """As `current`, without waiting; None where it would have to."""
        ...

    def current(self, *, deadline: float) -> KeySet: ...

    def newest(self, *, deadline: float) -> KeySet: ...


class OtherClock(Protocol):
    """*skew_s* is how far it is ahead of this machine's, in seconds; None while nobody knows."""

    @property
    def skew_s(self) -> float | None: ...

    def skewed(self, said: str) -> ClockSkew: ...


class FixedKeys:
    """Those of a file, until `replace` gives newer ones."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def replace(self, newer: KeySet) -> None:
        self._keys = newer

    def start(self) -> None:
        """There is nothing to fetch."""

    def at_hand(self) -> KeySet:
        return self._keys

    def current(self, *, deadline: float) -> KeySet:  # noqa: ARG002 - as RemoteKeys
        return self._keys

    def newest(self, *, deadline: float) -> KeySet:
        return self.current(deadline=deadline)


class Identities:
    """*issuer* None takes any; *trusts_unsaid* takes an e-mail as verified that no claim speaks of.

    Both are for `sidecar dev` alone. *email_claim* is asked before `email_verified`, in the same places.
    """

    def __init__(
        self,
        keys: KeySource,
        /,
        *,
        audience: str,
        issuer: str | None,
        trusts_unsaid: bool = False,
        email_claim: str | None = None,
    ) -> None:
        self._keys = keys
        self._email_claims = (_EMAIL_CLAIM,) if email_claim is None else (email_claim, _EMAIL_CLAIM)
        self._audience = audience
        self._issuer = issuer
        self._trusts_unsaid = trusts_unsaid
        self._required = ["exp", "sub", "aud"] + (["iss"] if issuer is not None else [])
        # To verify a token costs as much as the rest of a question: who was known a moment ago still is.
        self._known: dict[bytes, tuple[float, KeySet, EndUser]] = {}
        self._lock = Lock()
        self._other_clock: OtherClock | None = None

    def start(self) -> None:
        """In the worker: threads do not survive a fork."""
        self._keys.start()

    def compare_with(self, clock: OtherClock) -> None:
        """From now on a token's dates have to be right by *clock* as by this machine's own, or by neither."""
        self._other_clock = clock

    def recall(self, authorization: str | None, /) -> EndUser | None:
        """Who showed this header a moment ago; None where `user` has to find out."""
        known = self._known.get(_digest_of(authorization))
        if known is None or known[0] <= time.monotonic() or known[1] is not self._keys.at_hand():
            return None
        return known[2]

    def user(self, authorization: str | None, /, *, deadline: float) -> EndUser:
        """Who shows this header. *deadline* is on the monotonic clock.

        UnknownUser, with what an operator may know of why; IdentityUnavailable when the provider's keys
        cannot be had; ClockSkew where it is good by one of two clocks alone.
        """
        bearer = _BEARER.fullmatch(authorization or "")
        if bearer is None:
            shown = "there is no" if authorization is None else "there is no JWT in the"
            raise UnknownUser(f"{shown} Authorization header")
        if (known := self.recall(authorization)) is not None:
            return known
        try:
            return self._verified(authorization, bearer, deadline=deadline)
        except UnknownUser as refused:
            refused.unverified = unverified_claims(bearer[3])
            raise

    def user_if_signed(self, authorization: str) -> EndUser:
        """Who would show this header if a key of the provider's had signed it: never an answer to a request.

        UnknownUser as `user`, but for what only the keys can say.
        """
        bearer = _BEARER.fullmatch(authorization)
        if bearer is None:
            raise UnknownUser("there is no JWT in the Authorization header")
        try:
            _key_name_in(bearer[2])
            claims = self._claims_in(bearer[1], None, stated=_readable_claims(bearer[3]))
            return self._user_of(claims or {})
        except UnknownUser as refused:
            refused.unverified = unverified_claims(bearer[3])
            raise

    def replace_keys(self, newer: KeySet) -> None:
        """From any thread, where they are of a file: whoever was verified by the former is verified again."""
        if isinstance(self._keys, FixedKeys):
            self._keys.replace(newer)

    @property
    def keys_at(self) -> str | None:
        """The URL that the keys are fetched from, without its query; None where they are of a file."""
        return self._keys.url.partition("?")[0] if isinstance(self._keys, RemoteKeys) else None

    def _verified(self, authorization: str | None, bearer: re.Match[str], *, deadline: float) -> EndUser:
        keys = self._keys.current(deadline=deadline)
        kid, algorithm = _key_name_in(bearer[2])
        stated = _readable_claims(bearer[3])
        claims = self._claims_by_any(bearer[1], _keys_in(keys, kid, algorithm), stated=stated)
        if claims is None and kid is not None and (kid, algorithm) not in keys:
            keys = self._keys.newest(deadline=deadline)
            claims = self._claims_by_any(bearer[1], _keys_in(keys, kid, algorithm), stated=stated)
        if claims is None:
            raise UnknownUser("no key that it may be signed by has signed it")
        user = self._user_of(claims)
        for_s = min(_REMEMBERED_S, int(claims["exp"]) - time.time())
        if for_s > 0:
            self._remember(_digest_of(authorization), keys, user, for_s=for_s)
        return user

    def _claims_by_any(
        self, token: str, keys: Sequence[jwt.PyJWK], *, stated: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """By the first of *keys* that has signed it; None if none has."""
        for key in keys[:_MOST_TRIED]:
            claims = self._claims_in(token, key, stated=stated)
            if claims is not None:
                return claims
        return None

    def _claims_in(
        self, token: str, key: jwt.PyJWK | None, *, stated: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """None where another key has signed it. Without a *key* the signature is not looked at."""
        options: dict[str, Any] = {"require": self._required}
        if key is None:
            options |= {"verify_signature": False, **dict.fromkeys(_VERIFIED_ALL_THE_SAME, True)}
        try:
            claims = jwt.decode(
                token,
                key or "",
                algorithms=[key.algorithm_name] if key else None,
                audience=self._audience,
                issuer=self._issuer,
                leeway=_SKEW_S,
                options=options,  # type: ignore[arg-type] # it has a type for these names, and no name for it
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.PyJWTError as error:
            if isinstance(error, jwt.ExpiredSignatureError | jwt.ImmatureSignatureError):
                self._require_agreement(stated, are_right=False)
            why = why_not_valid(error, stated, audience=self._audience, issuer=self._issuer)
            raise UnknownUser(why) from None
        self._require_agreement(claims, are_right=True)
        since = int(claims["iat"]) if "iat" in claims else int(time.time())
        if int(claims["exp"]) - since > _LONGEST_LIFE_S:
            raise UnknownUser("it is good for more than 30 days")
        return claims

    def _require_agreement(self, claims: Mapping[str, Any], *, are_right: bool) -> None:
        """ClockSkew if the dates *are_right* by this machine's clock and not by the other, or the reverse."""
        off_s = self._other_clock.skew_s if self._other_clock is not None else None
        if self._other_clock is None or off_s is None or abs(off_s) <= _SKEW_S:
            return
        if _dates_are_right(claims, at=time.time() + off_s) != are_right:
            raise self._other_clock.skewed(
                f"the database's clock is {off_s:+.0f} s from ours, and the token is good by one alone"
            )

    def _user_of(self, claims: dict[str, Any]) -> EndUser:
        if fault := fault_in_text(claims["sub"]):
            raise UnknownUser(f"sub {fault}")
        email = claims.get("email")
        if not isinstance(email, str) or fault_in_text(email, longest=LONGEST_EMAIL):
            email = None
        return EndUser(
            id=claims["sub"],
            email=email,
            email_verified=email is not None and self._is_email_verified(claims),
            claims=MappingProxyType(claims),
        )

    def _is_email_verified(self, claims: Mapping[str, Any]) -> bool:
        """What the provider says, else how they signed in. What users write themselves is not looked at."""
        more = claims.get("app_metadata")
        for said in (claims, more if isinstance(more, dict) else {}):
            for claim in self._email_claims:
                if claim in said:
                    return said[claim] is True
        return _signed_in_by_email(claims.get("amr")) or self._trusts_unsaid

    def _remember(self, digest: bytes, keys: KeySet, user: EndUser, *, for_s: float) -> None:
        with self._lock:
            if len(self._known) >= _MOST_REMEMBERED:
                del self._known[next(iter(self._known))]  # the one that was verified first
            self._known.pop(digest, None)
            self._known[digest] = time.monotonic() + for_s, keys, user


def _dates_are_right(claims: Mapping[str, Any], *, at: float) -> bool:
    """As the library says it, with the same leeway."""
    begins = max((int(claims[name]) for name in ("iat", "nbf") if name in claims), default=0)
    return begins <= at + _SKEW_S and int(claims["exp"]) > at - _SKEW_S


def shows_a_jwt(authorization: str | None) -> bool:
    """Whether the header has the form of a JWT, whoever has signed it."""
    return _BEARER.fullmatch(authorization or "") is not None


def _signed_in_by_email(methods: object) -> bool:
    """Whether one of Supabase's `amr` proves the address. In a list of texts (RFC 8176) `otp` is a device."""
    for each in methods if isinstance(methods, list) else ():
        method = each.get("method") if isinstance(each, dict) else None
        if isinstance(method, str) and method in _PROVING_METHODS:
            return True
    return False


def _digest_of(authorization: str | None) -> bytes:
    return sha256((authorization or "").encode("latin-1", "replace")).digest()


def identities_of(settings: Settings) -> Identities | None:
    """None where no keys are set: then there are no users. ConfigError for a file that is not right.

    Settings that are read from the environment have an issuer. Only `sidecar dev` makes some without, and is
    as trusting as somebody alone on their machine.
    """
    if settings.jwt_keys is None or settings.jwt_audience is None:
        return None
    return Identities(
        _source(settings.jwt_keys),
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        trusts_unsaid=settings.jwt_issuer is None,
        email_claim=settings.jwt_email_claim,
    )


def _source(keys: str) -> KeySource:
    if keys.startswith(("https://", "http://")):
        return RemoteKeys(keys, read=key_set_in)
    return FixedKeys(key_set_at(keys))


def key_file_of(keys: str | None) -> Path | None:
    """The file that SIDECAR_JWT_KEYS names; None where it names a URL, or nothing."""
    if keys is None or keys.startswith(("https://", "http://")):
        return None
    return Path(keys.removeprefix("hs256:"))


def key_set_at(keys: str) -> KeySet:
    """Of the file that *keys*, as in SIDECAR_JWT_KEYS, names. ConfigError where it is not right."""
    path = Path(keys.removeprefix("hs256:"))
    try:
        raw = path.read_bytes()
        return key_set_of_secret(raw) if keys.startswith("hs256:") else key_set_in(raw)
    except OSError as error:
        fault = f"{path} cannot be read: {error.strerror}"
    except NotKeys as error:
        fault = f"{path}: {error}"
    raise ConfigError(
        "the identity provider's keys are not right",
        problems=(Problem(pointer="SIDECAR_JWT_KEYS", detail=fault),),
    )


def key_set_in(raw: bytes) -> KeySet:
    """The keys of a JWK set that can verify tokens. NotKeys if there is none; others are passed over."""
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError):
        raise NotKeys("not JSON") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise NotKeys("not a JWK set: it has no list of keys")
    keys: KeySet = {}
    for each in listed:
        if isinstance(each, dict) and (key := _key_of(each)):
            name = each.get("kid"), key.algorithm_name
            keys[name] = (*keys.get(name, ()), key)
    if not keys:
        raise NotKeys("no key for RS256 (2048 bits or more), ES256 or EdDSA is in it")
    return keys


def key_set_of_secret(raw: bytes) -> KeySet:
    secret = raw.rstrip(b"\r\n")
    if len(secret) < _SHORTEST_SECRET:
        raise NotKeys(f"the secret must be {_SHORTEST_SECRET} bytes or more")
    encoded = urlsafe_b64encode(secret).rstrip(b"=").decode()
    key = jwt.PyJWK({"kty": "oct", "k": encoded}, _SECRET)
    try:
        key.Algorithm.prepare_key(key.key)
    except jwt.PyJWTError:
        raise NotKeys("a key or certificate that others may know is not a secret") from None
    return {(None, _SECRET): (key,)}


def _key_of(stated: dict[str, Any]) -> jwt.PyJWK | None:
    kind, curve, uses = stated.get("kty"), stated.get("crv"), stated.get("key_ops", ["verify"])
    if not isinstance(kind, str) or not isinstance(curve, str | None):
        return None
    algorithm = _ALGORITHMS.get((kind, curve))
    for_others = stated.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses
    if algorithm is None or stated.get("alg", algorithm) != algorithm or for_others or "d" in stated:
        return None
    if not isinstance(stated.get("kid"), str | None):
        return None
    try:
        key = jwt.PyJWK(stated, algorithm)
        is_too_short = key.Algorithm.check_key_length(key.key)
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError):  # numbers that are none, or no key's
        return None
    return None if is_too_short else key


def _key_name_in(header: str) -> tuple[str | None, str]:
    """Which key a token claims to be signed by. Nothing of it is believed: the key says what it is for."""
    try:
        stated = document_in(header)
    except ValueError:
        raise UnknownUser("its header is not JSON") from None
    match stated:
        case {"alg": "HS256"}:
            return None, _SECRET  # there is one secret, whatever a token calls it
        case {"alg": str(algorithm), "kid": str(kid)} if algorithm in _ALGORITHMS.values():
            return kid, algorithm
        case {"alg": str(algorithm)} if algorithm in _ALGORITHMS.values() and "kid" not in stated:
            return None, algorithm
        case _:
            raise UnknownUser("it is signed in no way that is taken")


def _readable_claims(payload: str) -> dict[str, Any]:
    """UnknownUser for what JSON can hold and a claim cannot, before a library counts with it."""
    try:
        claims = document_in(payload)
    except ValueError:
        raise UnknownUser("its claims are not JSON") from None
    if not isinstance(claims, dict):
        raise UnknownUser("its claims are no JSON object")
    for name in _DATES:
        date = claims.get(name, 0)
        if isinstance(date, bool) or not isinstance(date, int | float) or not 0 <= date <= _LAST_DATE:
            raise UnknownUser(f"{name} is no date")
    return claims


def _keys_in(keys: KeySet, kid: str | None, algorithm: str) -> Sequence[jwt.PyJWK]:
    """Those that may have signed it, to be tried in turn: of its name and without one, else all."""
    if kid is not None:
        return (*keys.get((kid, algorithm), ()), *keys.get((None, algorithm), ()))
    return [key for (_, its), all_of_it in keys.items() if its == algorithm for key in all_of_it]
