"""`python -m sidecar` is the command `sidecar`."""

from __future__ import annotations

import sys

_EXIT_CONFIGURATION = 78


def main() -> None:
    """Ends the process, as `sidecar.cli.main` says; 78 where only the guard is installed."""
    try:
        from sidecar.cli import main as run  # noqa: PLC0415 - click is of the extra `server`
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.stderr.write("sidecar: only the guard is installed here: pip install 'policy-sidecar[server]'\n")
        sys.exit(_EXIT_CONFIGURATION)
    run()


if __name__ == "__main__":
    main()
