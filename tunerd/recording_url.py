"""Which text is a recording's location that Tuner can fetch: an http or https URL. Pure.

Checked where a rule gives one (mapping/source.py), where the configuration names one (loading/strategies.py), and again
before a body is frozen (mapping/forms.py). A URL is neither cut nor changed: it may be signed.
"""

import re
from typing import Final
from urllib.parse import urlsplit

MAX_URL_CHARS: Final = 1024
"""Of recording_url in create-call (Tuner's API reference); send-calls states no limit."""

_NOT_IN_A_URL: Final = re.compile(
    '[\x00-\x20\x7f-\xa0\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ud800-\udfff<>"\\\\{}]'
)
"""Controls, every kind of blank and line end, invisible marks, half surrogates; and quotes, brackets and backslashes, which
RFC 3986 allows nowhere (braces are mostly a template that nobody filled in). Letters beyond ASCII pass: clients escape them."""
_NAME: Final = re.compile(r"[^.!$&'()*+,;=%]{1,63}(?:\.[^.!$&'()*+,;=%]{1,63})*\.?")
"""Of a host, label by label."""


def url_problem(url: str) -> str | None:
    """Why nobody can fetch this text as a URL, in words for a message that names the rule; None: it looks sound.
    The text itself is never quoted: its query may be a secret."""
    scheme, colon, _ = url.partition(":")
    if not colon or scheme.lower() not in ("http", "https"):
        return "has to be an http or https URL that Tuner can fetch" + _instead(url)
    if (odd := _NOT_IN_A_URL.search(url)) is not None:
        return f"is no URL: it has {_named(odd[0])} at character {odd.start() + 1}; escape it (`url_quote`), or take it out"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL: its host or port cannot be read"
    if not parts.netloc or not host or not _is_host(host):
        return "is a URL without a host that could be asked"
    return None


def _is_host(host: str) -> bool:
    if ":" in host:
        return True  # an IPv6 address; urlsplit has checked the brackets
    return len(host) <= 253 and _NAME.fullmatch(host) is not None


def _instead(url: str) -> str:
    if url.startswith("//"):
        return ": put `https:` in front of it with concat()"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url):
        return ", not a location in a bucket or of another kind"
    return ", not a path or a storage key: build the URL with concat()"


def _named(odd: str) -> str:
    if odd.isspace():
        return "a blank or line end"
    return "a control or invisible character" if not odd.isprintable() else f"`{odd}`"
