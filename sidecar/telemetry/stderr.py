"""What is written to standard error: text, or one JSON object a line. No message begins a line of its own."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from datetime import UTC, datetime
from logging.config import dictConfig
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from types import TracebackType

LogFormat = Literal["text", "json"]

# What ends a line for somebody, or moves a terminal's cursor.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_INDENT = "    "


def escaped(text: str) -> str:
    """*text* on one line, with each control character but a tab as Python writes it."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def line_of(message: str, *, level: str, log_format: LogFormat) -> str:
    """A line of a command, without its newline."""
    if log_format == "text":
        return escaped(message)
    return _json({"ts": _time(datetime.now(UTC)), "level": level, "message": message})


class TextLines(logging.Formatter):
    """One line, and the lines of a traceback indented below it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s [%(process)d] %(levelname)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the standard library
        return escaped(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802, ANN401 - ditto
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 - ditto
        return _indented(super().formatStack(stack_info))


class JsonLines(logging.Formatter):
    """An object with ts, level, message, logger, pid, and the traceback as `error`."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "ts": _time(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "logger": record.name,
            "pid": record.process,
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = record.stack_info
        return _json(fields)


def logging_config(log_format: LogFormat) -> dict[str, Any]:
    """As `logging.config.dictConfig` takes it: gunicorn's lines and ours, to standard error."""
    lines = JsonLines if log_format == "json" else TextLines
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": lines}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": "WARNING", "handlers": ["stderr"]},
        "loggers": {
            name: {"level": "INFO", "handlers": ["stderr"], "propagate": False}
            for name in ("gunicorn.error", "sidecar")
        },
    }


def log_to_stderr(log_format: LogFormat) -> None:
    """From now on, in this process and those that it forks: warnings and what nobody has caught included."""
    dictConfig(logging_config(log_format))
    logging.captureWarnings(True)  # noqa: FBT003 - of the standard library
    log = logging.getLogger("sidecar")

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        log.critical("nobody has caught an error", exc_info=(kind, error, trace))

    def uncaught_on_a_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and not issubclass(told.exc_type, SystemExit):
            uncaught(told.exc_type, told.exc_value, told.exc_traceback)

    sys.excepthook = uncaught
    threading.excepthook = uncaught_on_a_thread


def _indented(text: str) -> str:
    return "\n".join(_INDENT + escaped(line) for line in text.split("\n"))


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(fields: dict[str, object]) -> str:
    return json.dumps(fields, separators=(",", ":"))  # in ASCII: no line ends within it, whoever reads
