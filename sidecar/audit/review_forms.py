"""An access review as CSV, as a page with lines to sign, and as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.audit.forms import csv_text, html, html_page, text_table
from sidecar.audit.review import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sidecar.audit.made import Made

_SHOWN = ("kind", "workspace", "user", "email", "role", "since", "granted_by", "flags", "last_used")
_TO_FILL_IN = ("decision", "reviewer", "reviewed_at")


def review_csv(documents: Sequence[Mapping[str, object]]) -> str:
    return csv_text(COLUMNS, ([_joined(each[column]) for column in COLUMNS] for each in documents))


def review_lines(documents: Sequence[Mapping[str, object]]) -> list[str]:
    """Without the rights: they are long, and CSV has them."""
    table = [list(_SHOWN)]
    table += [[_text(each[column]) for column in _SHOWN] for each in documents]
    return text_table(table)


def review_html(documents: Sequence[Mapping[str, object]], made: Made, notes: Sequence[str]) -> str:
    head = "".join(f"<th>{html(column.replace('_', ' '))}</th>" for column in COLUMNS)
    body = "\n".join(_html_row(each) for each in documents)
    caption = (
        f"Made by {made.by} at {made.at}: {made.command}. Login {made.login}, database {made.database},"
        f" {f'as of {made.as_of}, ' if made.as_of else ''}revision {made.revision}, asked of {made.engine}."
        f" {len(documents)} rows."
    )
    lines = "".join(f"<p>{html(note)}</p>\n" for note in notes)
    return html_page(
        "Access review",
        f"<h1>Access review</h1>\n{lines}<table>\n<caption>{html(caption)}</caption>\n"
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n{_SIGNATURES}",
    )


def _html_row(document: Mapping[str, object]) -> str:
    colour = ' class="pay"' if document["flags"] else ""
    cells = (
        f"<td>{html(_text(value))}</td>" if column not in _TO_FILL_IN else "<td></td>"
        for column, value in document.items()
    )
    return f"<tr{colour}>{''.join(cells)}</tr>"


def _joined(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _text(value: object) -> str:
    joined = _joined(value)
    return "" if joined is None else str(joined)


_LINE = "_" * 32
_SIGNATURES = (
    "<h2>Signed</h2>\n<p>Each row was looked at; what is to be revoked says so under decision.</p>\n"
    f"<p>Reviewer: {_LINE} &nbsp; Date: {_LINE}</p>\n<p>Approved by: {_LINE} &nbsp; Date: {_LINE}</p>"
)
