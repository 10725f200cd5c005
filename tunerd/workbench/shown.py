"""Values and places as people read them: shortened, on one line, with nothing that could upset a terminal."""

import json
import os
import textwrap
from typing import Any, Final

from tunerd.visible import visible
from tunerd.yaml_location import YamlLocation

WIDTH: Final = 80


def short(value: Any, most: int = 60) -> str:
    """A JSON value in at most `most` characters; a longer value is cut, with its size."""
    if isinstance(value, str):
        whole = json.dumps(value[: most + 1], ensure_ascii=False)
        if len(value) <= most and len(whole) <= most:
            return visible(whole)
        size = f"... ({len(value):,} characters)"
        return visible(json.dumps(value[: max(4, most - len(size) - 2)], ensure_ascii=False)[:-1]) + '"' + size
    if isinstance(value, list | dict):
        whole = _json(value) if len(value) <= most else ""
        return visible(whole) if whole and len(whole) <= most else _size(value)
    return visible(_json(value))


def _size(value: list[Any] | dict[str, Any]) -> str:
    if isinstance(value, list):
        return f"[{len(value):,} {'item' if len(value) == 1 else 'items'}]"
    names = ", ".join(str(name) for name in list(value)[:3])
    more = ", ..." if len(value) > 3 else ""
    return visible("{" + (names if len(names) < 50 else f"{len(value)} members") + more + "}")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "(nested too deep to show)"


def where(location: YamlLocation) -> str:
    """`config.yaml:12`, `preset vapi:12`: short enough for the line of a rule."""
    if location.file.startswith("preset "):
        return f"{location.file}:{location.line}"
    return f"{os.path.basename(location.file)}:{location.line}"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 call`, `1,200 calls`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def wrapped(text: str, indent: str, first: str | None = None) -> list[str]:
    """Lines of at most eighty columns; what is long and whole (a URL, a path) stays so."""
    return textwrap.wrap(
        visible(text), WIDTH, initial_indent=indent if first is None else first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    ) or [first or indent]  # fmt: skip
