"""Whether a body comes from Stripe: its library checks the signature. Imported only where secrets are set."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from stripe import SignatureVerificationError, WebhookSignature

from sidecar.errors import SignatureInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

TOLERANCE_S = 300
_SECONDS = re.compile(r"[0-9]{1,12}", re.ASCII)


class StripeSignatures:
    """*secrets* are those of one webhook endpoint: while one replaces another, Stripe signs with both."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(secrets)

    def require(self, body: bytes, header: str | None) -> None:
        """SignatureInvalid unless *header*, Stripe-Signature, is of *body* and of the last five minutes."""
        if header is None:
            raise SignatureInvalid("there is no Stripe-Signature")
        if not header.isascii():  # the library compares text, which has to be ASCII
            raise SignatureInvalid("the Stripe-Signature is not ASCII")
        try:
            payload = body.decode()
        except UnicodeDecodeError:
            raise SignatureInvalid("the body is not UTF-8") from None
        why = ""
        for secret in self._secrets:
            try:
                WebhookSignature.verify_header(payload, header, secret, TOLERANCE_S)
            except SignatureVerificationError as error:
                why = str(error)
            else:
                return _refuse_ahead(header)
        raise SignatureInvalid(why)


def _refuse_ahead(header: str) -> None:
    """A clock that is ahead would make a signature good for longer, which the library does not look at."""
    stated = next((part[2:] for part in header.split(",") if part.startswith("t=")), "")
    if not _SECONDS.fullmatch(stated) or int(stated) > time.time() + TOLERANCE_S:
        raise SignatureInvalid(f"the timestamp {stated} is more than {TOLERANCE_S} s ahead")
