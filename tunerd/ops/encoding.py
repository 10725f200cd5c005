"""JSON for logs, the control socket, /status.json and `--json`, whatever a file is called.

File names need not be UTF-8: Python carries such bytes as lone surrogates, which orjson rejects. One such name must not make
`status`, `failed` or /status.json fail, so whatever orjson rejects is written by the standard library.
"""

import json
from dataclasses import fields, is_dataclass

import orjson

from tunerd.visible import visible_json


def encoded(value: object, *, indent: bool = False, exact: bool = False) -> bytes:
    """JSON of plain values and dataclasses, with invisible characters escaped. `exact`: bytes of a file name that are not UTF-8
    as lone surrogates (`\\udcff`), which only `decoded` reads, for the control socket; else as text for every reader: `\\xff`."""
    try:
        raw = orjson.dumps(value, default=_default, option=orjson.OPT_INDENT_2 if indent else None)
    except TypeError:
        text = json.dumps(_plain(value) if exact else _readable(_plain(value)), default=_default, indent=2 if indent else None)
        return visible_json(text).encode()
    return raw if raw.isascii() and b"\x7f" not in raw else visible_json(raw.decode()).encode()


def decoded(raw: bytes) -> object:
    """What `encoded` wrote. Raises json.JSONDecodeError."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = json.loads(raw.decode("ascii", "replace"))
    return value


def _default(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)


def _plain(value: object) -> object:
    """Dataclasses as dictionaries, as orjson writes them."""
    if is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _readable(value: object) -> object:
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that no file name gives
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_readable(name): _readable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(item) for item in value]
    return value
