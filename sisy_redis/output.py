"""Rows as tables for people, or as JSON for programs."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

_WIDEST = 60
# What other commands take.
_WHOLE = frozenset(("run",))


def table(pages: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[str], *, as_json: bool) -> None:
    """Many things, a line each; printed page by page, so that their number does not matter. JSON: one array."""
    if as_json:
        _json_array(row for page in pages for row in page)
        return
    widths, is_first = [0] * len(columns), True
    for page in pages:
        cells = [[_whole(row[column]) if column in _WHOLE else cell(row[column]) for column in columns] for row in page]
        heads = [[column.upper().replace("_", " ") for column in columns]] if is_first else []
        lines = heads + cells
        widths = [max(width, *(len(line[i]) for line in lines)) for i, width in enumerate(widths)] if lines else widths
        _print_lines(lines, widths)
        is_first = False


def show(row: Mapping[str, Any], *, as_json: bool) -> None:
    """One thing, a line a fact."""
    if as_json:
        print(json.dumps(row, indent=2))
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        for i, line in enumerate(_text(value).splitlines() or ["-"]):
            print(f"{name.replace('_', ' ') if i == 0 else '':<{width}}  {line}".rstrip())


def lines(texts: Iterable[str]) -> None:
    """Plain lines; what came from Redis cannot steer the terminal."""
    for text in texts:
        print(_safe(text))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Columns of text, each as wide as its widest cell."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(_line(line, widths) for line in lines)


def cell(value: Any) -> str:
    """A value in one short line."""
    text = _text(value).strip().rpartition("\n")[2] or "-"
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def _whole(value: Any) -> str:
    return _text(value).strip() or "-"


def _text(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return _safe("\n".join(_instant(item) or item for item in value))
    if isinstance(value, dict | list):
        return _safe(json.dumps(value, ensure_ascii=False))
    text = str(value)
    return _instant(text) or _safe(text)


def _instant(text: str) -> str:
    """An instant as people read it: in UTC, to the second. Empty for other text."""
    if len(text) < 20 or text[10:11] != "T":
        return ""
    try:
        return datetime.fromisoformat(text).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except ValueError:
        return ""


def _safe(text: str) -> str:
    """Without what a terminal would obey: labels and tracebacks come from Redis."""
    return "".join(c if c.isprintable() or c == "\n" else "�" for c in text.replace("\t", "    "))


def _json_array(rows: Iterable[Mapping[str, Any]]) -> None:
    separator = "["
    for row in rows:
        print(f"{separator}{json.dumps(row)}", end="")
        separator = ",\n "
    print("[]" if separator == "[" else "]")


def _print_lines(lines: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    for line in lines:
        print(_line(line, widths))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(cells, widths, strict=True)).rstrip()
