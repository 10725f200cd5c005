"""JSON of what tunerd tells and is told, whatever a file is called.

File names need not be UTF-8: Python carries their odd bytes as lone surrogates, which orjson takes for an error. One such
name must not make `status`, `failed` or /status.json unanswerable, so what orjson refuses is written by the standard library.
"""

import json

import orjson

from tunerd.visible import visible_json


def encoded(value: object, *, indent: bool = False, exact: bool = False) -> bytes:
    """JSON, in which invisible characters are escapes. `exact`: odd bytes of a file name as lone surrogates (`\\udcff`),
    which only `decoded` undoes: for the control socket. Else as text that every reader takes: `\\xff`."""
    try:
        raw = orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2 if indent else None)
    except TypeError:
        text = json.dumps(value if exact else _readable(value), default=str, indent=2 if indent else None)
        return visible_json(text).encode()
    return raw if raw.isascii() and b"\x7f" not in raw else visible_json(raw.decode()).encode()


def decoded(raw: bytes) -> object:
    """What `encoded` wrote. Raises json.JSONDecodeError."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = json.loads(raw.decode("ascii", "replace"))
    return value


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
