"""Values that have a form of their own: URLs, host names, names of sources, zones, file patterns. Pure.

Each function gives the value in its one form, or raises: ValueError with what is wrong, in words that do not repeat the value (it
may be a secret); Unusable where the value is of another kind altogether.
"""

import os
import re
from typing import Final
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo

from tunerd.config.quantities import parse_duration

DEFAULT_BASE_URL: Final = "https://api.usetuner.ai"
FIRST_LABEL: Final = "default"
"""What metrics call the destination of the `tuner:` block at the top, unless it has a `name:`."""
REMOVED: Final = "removed"
"""The label of destinations that are no longer configured."""
LEDGER_URL: Final = "sqlite:///var/lib/tunerd/ledger.db (the path after sqlite:// is absolute)"
POSTGRESQL: Final = "postgresql://"
_POSTGRESQL_URL: Final = "postgresql://USER@HOST:5432/DATABASE (docs/fleet.md)"

_SOURCE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_INSTANCE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}", re.ASCII)
_LABEL: Final = r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_LISTEN: Final = re.compile(r"(\[[0-9A-Fa-f:.%a-z]+\]|[A-Za-z0-9._-]*):([0-9]{1,5})", re.ASCII)


class Unusable(Exception):
    """The value is not of the kind that its key takes. The message, if any, is a hint for the end of the sentence."""


def parse_source_name(text: str) -> str:
    if not _SOURCE_NAME.fullmatch(text):
        raise ValueError("a name is 1 to 64 letters, digits, `-`, `_` or `.`, and starts with a letter or digit")
    return text


def parse_destination_name(text: str) -> str:
    if text == REMOVED:
        raise ValueError(f"{REMOVED} is what metrics call destinations that are no longer configured; choose another name")
    return parse_source_name(text)


def parse_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError("takes a name of the time zone database, like UTC or Europe/Berlin") from None
    return text


def parse_path_below(text: str) -> str:
    if text.startswith("/") or ".." in text.split("/"):
        raise ValueError("is relative to the source's `path:`, without a leading / and without ..")
    return text


def parse_patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    if any(text.startswith("/") or ".." in text.split("/") for text in texts):
        raise ValueError("patterns are names below `path:`, without a leading / and without ..")
    return texts


def parse_include(texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        raise ValueError('is empty, so nothing would be read; write patterns like ["*.json"]')
    return parse_patterns(texts)


def is_key(text: str) -> bool:
    return bool(text) and text.isascii() and all("!" <= char <= "~" for char in text)


def parse_base_url(text: str) -> str:
    """Scheme, host, port and path without a slash at the end."""
    want = f"write scheme and host, like {DEFAULT_BASE_URL}"
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"is not a URL: {want}") from None
    if fault := _url_fault(parts, text.strip()):
        raise ValueError(f"{fault}; {want}")
    shown = f"[{host}]" if host and ":" in host else host
    default = {"http": 80, "https": 443}[parts.scheme.lower()]
    return f"{parts.scheme.lower()}://{shown}{'' if port in (None, default) else f':{port}'}{parts.path.rstrip('/')}"


def _url_fault(parts: SplitResult, text: str) -> str | None:
    if any(char.isspace() or char in '\\<>"{}|^`' for char in text):
        return "has characters that no URL has"
    if parts.scheme.lower() not in ("http", "https"):
        return "does not start with https:// (or http://)"
    if not parts.hostname:
        return "names no host"
    if parts.username is not None or parts.password is not None:
        return "holds a user name or password; the key belongs in `api_key_file`"
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        return "has a ? or # part; workspace and agent have keys of their own"
    if "/api/v1" in parts.path:
        return "holds the path of the API; tunerd adds that itself"
    return None


def parse_ledger_url(value: object) -> str:
    """`sqlite:///absolute/path` -> the path; `postgresql://...` -> the URL, as libpq takes it."""
    if not isinstance(value, str) or not value.strip():
        raise Unusable
    scheme, separator, rest = value.partition("://")
    if scheme.lower() in ("postgresql", "postgres") and separator:
        return _server_url(rest.strip())
    if scheme.lower() != "sqlite" or not separator:
        raise ValueError(f"write {LEDGER_URL}")
    if not rest.startswith("/"):
        raise ValueError(f"the path is not absolute; write {LEDGER_URL}")
    if "?" in rest or "#" in rest:
        raise ValueError(f"a path only, without ? or #; write {LEDGER_URL}")
    if rest.strip("/") == "" or rest.endswith("/"):
        raise ValueError(f"names a directory, not a file; write {LEDGER_URL}")
    return os.path.normpath("/" + rest.lstrip("/"))


def _server_url(rest: str) -> str:
    url = POSTGRESQL + rest
    try:
        parts = urlsplit(url)
        has_port = parts.port is None or parts.port > 0
    except ValueError:
        has_port = False
    if not has_port or "#" in rest or rest.count("@") > 1 or any(char.isspace() for char in rest):
        raise ValueError(
            f"is no URL of a PostgreSQL server; write {_POSTGRESQL_URL}, with %40 for an @ in a "
            "password and the like, or give the password by ledger.password_file"
        )
    if not parts.path.strip("/") and "dbname=" not in parts.query:
        raise ValueError(f"names no database; write {_POSTGRESQL_URL}")
    return url


def bare_server(url: str) -> str:
    """A server's URL without user, password and options."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def parse_instance(text: str) -> str:
    if not _INSTANCE.fullmatch(text):
        raise ValueError("a name is 1 to 120 letters, digits, `-`, `_` or `.`, and starts with a letter or digit")
    return text


def parse_listen(value: object) -> str:
    """host:port with an IPv6 host in [ ]; `:9464` is every address, IPv4 and IPv6; empty for none."""
    if value is None or value in ("", "off", "none"):
        return ""
    found = _LISTEN.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None or int(found[2]) > 65535:
        raise Unusable(f"; write 127.0.0.1:{value}" if isinstance(value, int) and not isinstance(value, bool) else "")
    return f"{found[1]}:{int(found[2])}"


def parse_control_socket(text: str) -> str:
    if not text.startswith("/") or not text.endswith(".sock"):
        raise ValueError("takes an absolute path that ends with .sock, like /run/tunerd/control.sock")
    return os.path.normpath(text)


def parse_hosts(texts: tuple[str, ...]) -> tuple[str, ...]:
    """In lower case, without a dot at the end."""
    names = tuple(text.strip().rstrip(".").lower() for text in texts)
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("takes host names without scheme and port, like [tunerd.internal]")
    return names


def parse_within(value: object) -> float | None:
    """A duration, or `any`."""
    if value == "any":
        return None
    return parse_seconds(value)


def parse_seconds(value: object) -> float:
    """A written duration, or a number of seconds."""
    try:
        if isinstance(value, str):
            return parse_duration(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return parse_duration(f"{value:.9f}s")  # Through the text form, so that one set of limits holds for both.
    except ValueError:
        pass
    raise Unusable
