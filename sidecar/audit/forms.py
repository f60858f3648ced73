"""Reports as CSV, Markdown, HTML and aligned text: whatever a value holds, it stays a value there."""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# What a terminal obeys, what turns the direction of text around, what has no width.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff]")
_OBEYED_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>|#~])")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; font: 15px/1.45 system-ui, sans-serif }
body { margin: 2rem auto; max-width: 110rem; padding: 0 1rem }
table { border-collapse: collapse } caption { text-align: left; padding: .5rem 0 }
th, td { border: 1px solid #8884; padding: .25rem .5rem; text-align: left; vertical-align: top }
.yes { background: #2a62 } .no { background: #a332 } .pay { background: #a932 }
@media print {
  body { margin: 0; font-size: 9pt } thead { display: table-header-group } tr { break-inside: avoid }
}
"""


def shown(text: str) -> str:
    """*text* for one line of a terminal: control and direction characters as escapes."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def text_table(rows: Iterable[Sequence[str]], *, indent: str = "") -> list[str]:
    """Columns as wide as their widest cell, two spaces apart; each cell as `shown`."""
    cells = [[shown(cell) for cell in row] for row in rows]
    width = max((len(row) for row in cells), default=0)
    widths = [max((len(row[at]) for row in cells if at < len(row)), default=0) for at in range(width)]
    return [
        indent + "  ".join(cell.ljust(widths[at]) for at, cell in enumerate(row)).rstrip() for row in cells
    ]


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """RFC 4180 with a header row. A list or mapping is JSON, None is empty, truth is true or false."""
    return "".join(csv_lines([columns, *rows]))


def csv_lines(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """As csv_text, row by row; the header is a row as any."""
    for row in rows:
        out = io.StringIO()
        csv.writer(out, lineterminator="\r\n").writerow(_csv_cell(value) for value in row)
        yield out.getvalue()


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [[_markdown_cell(name) for name in columns], ["---"] * len(columns)]
    lines += [[_markdown_cell(cell) for cell in row] for row in rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def html_page(title: str, body: str) -> str:
    """One file without script or outside resource. *body* is HTML; *title* is text."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{html(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def html(text: str) -> str:
    """*text* as it is seen, for an element or an attribute in double quotes."""
    return escape(shown(text), quote=True)


def _csv_cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, sort_keys=True)
        case str():
            return f"'{value}" if value.startswith(_OBEYED_BY_SPREADSHEETS) else value  # CWE-1236
        case _:
            return str(value)


def _markdown_cell(text: str) -> str:
    return _MARKDOWN.sub(r"\\\1", shown(text))
