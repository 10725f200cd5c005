"""Masks secrets in text: anything that looks like a key, a password or a URL's query is shown as `[redacted]`.

This is the second line of defence: events and rows should carry none of it. Pure.
"""

import re
from typing import Final

MASK: Final = "[redacted]"
_URL = re.compile(
    r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?:[^\s/@\"'?#]+@)?(?P<place>[^\s\"'<>?#]*)(?P<rest>[?#][^\s\"'<>]*)?", re.IGNORECASE
)
_SECRETS = re.compile(
    r"\btr_api_[\w-]+"
    r"|\b(?:sk|pk|rk|whsec)[-_][\w-]{12,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"
    r"|(?<=bearer )[^\s\"',;]+"
    r"|(?<=basic )[A-Za-z0-9+/=]{8,}"
    r"|(?<=-----BEGIN)[^-]*-----[\s\S]*",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"(?<![\w-])(?P<name>[\w-]*(?:api[-_]?key|authorization|secret|password|passwd|token|signature|credential)(?![\w-]*_file)[\w-]*)"
    r"(?P<sign>\"?\s*[=:]\s*\"?)(?:(?:bearer|basic)\s+)?(?=[^\s\"',;&}]*\d)(?P<value>[^\s\"',;&}\[]{6,})",
    re.IGNORECASE,
)
"""`token: abc123`; a value without a digit is prose (`signature: wrong`) or a path."""


_known: set[str] = set()


def keep_out(secret: str) -> None:
    """From now on this exact text is masked wherever it appears. Texts under 6 characters are not: masking them would damage too
    much."""
    if len(secret) >= 6:
        _known.add(secret)


def redact(text: str) -> str:
    """The text without what looks like a secret. URLs keep scheme, host and path."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, MASK)
    text = _URL.sub(_url, text) if "://" in text else text
    folded = text.casefold()
    if (":" in text or "=" in text) and _may_be_named(folded):
        text = _NAMED.sub(rf"\g<name>\g<sign>{MASK}", text)
    return _SECRETS.sub(MASK, text) if _may_be_secret(folded) else text


# Every log line is searched: a text without any of these words cannot match the pattern, which takes a hundred times as long.


def _may_be_named(folded: str) -> bool:
    return (
        "key" in folded or "authorization" in folded or "secret" in folded or "passw" in folded or "token" in folded
        or "signature" in folded or "credential" in folded
    )  # fmt: skip


def _may_be_secret(folded: str) -> bool:
    return (
        "tr_api_" in folded or "k-" in folded or "k_" in folded or "whsec" in folded or "akia" in folded or "asia" in folded
        or "eyj" in folded or "bearer " in folded or "basic " in folded or "-----begin" in folded
    )  # fmt: skip


def without_query(url: str) -> str:
    """A URL as it may be shown: no user, no password, no query, no fragment."""
    return redact(_URL.sub(_url, url)) if "://" in url else redact(re.split(r"[?#]", url, maxsplit=1)[0])


def _url(found: re.Match[str]) -> str:
    return f"{found['scheme']}{found['place']}{'?' + MASK if found['rest'] else ''}"
