"""`sidecar whoami`: whose a token is, or why nobody's."""

from __future__ import annotations

import os
import sys

import click

from sidecar.cli import EXIT_FOUND, EXIT_NOT_ASKED, EXIT_USAGE
from sidecar.identity.callers import callers_in
from sidecar.identity.whose import whose
from sidecar.settings import Settings

_LONGEST = 64 * 1024  # bytes: more than any token that is taken


# An option that click does not know, or a word too many, would be shown in its message: it may be a token.
@click.command(name="whoami", context_settings={"ignore_unknown_options": True})
@click.argument("token", nargs=-1, type=click.UNPROCESSED)
def command(token: tuple[str, ...]) -> int:
    """Say whose TOKEN is: a caller's, or an end user's JWT; or why it is nobody's.

    With - it is read from standard input: arguments can be seen by everybody on the machine.

    It asks nobody. It reads SIDECAR_TOKENS and SIDECAR_JWT_…; keys behind a URL are not fetched, and then the
    signature is not verified. Exit code 1: nobody's; 69: not verified.
    """
    words = [word for word in token if word.lower() != "bearer"]
    if len(words) != 1:
        click.echo("Error: expected one TOKEN, or - to read it from standard input", err=True)
        return EXIT_USAGE
    text = sys.stdin.buffer.read(_LONGEST).decode(errors="replace") if words[0] == "-" else words[0]
    settings = Settings.some_from_environ(
        os.environ,
        ("tokens", "jwt_keys", "jwt_issuer", "jwt_audience", "jwt_email_claim"),
    )
    found = whose(text, settings=settings, callers=callers_in(settings.tokens))
    print("\n".join(found.lines))
    return {True: 0, False: EXIT_FOUND, None: EXIT_NOT_ASKED}[found.known]
