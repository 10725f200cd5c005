"""Where a recording is: a URL, a file on this machine, an object in a bucket, or an entry of tunerd's own spool. Pure.

A rule, the configuration and an operator give a location as text, and `LocationPolicy.parse` decides whether it is one that
reaches Tuner. The ledger keeps `Location.text`; `stored_location` makes the location of it again. Texts are never quoted in a
message: they come from documents, and the query of a URL may be a secret.
"""

import posixpath
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from tunerd.record import positional_record

MAX_URL_CHARS: Final = 1024
"""Of recording_url in create-call (Tuner's API reference); send-calls states no limit."""

_NOT_IN_A_URL: Final = re.compile(
    '[\x00-\x20\x7f-\xa0\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ud800-\udfff<>"\\\\{}]'
)
"""Controls, every kind of blank and line end, invisible marks, half surrogates; and quotes, brackets and backslashes, which
RFC 3986 allows nowhere (braces are mostly a template that nobody filled in). Letters beyond ASCII pass: clients escape them."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_HALF: Final = re.compile("[\ud800-\udfff]")
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAME: Final = re.compile(r"[^.!$&'()*+,;=%]{1,63}(?:\.[^.!$&'()*+,;=%]{1,63})*\.?")
"""Of a host, label by label."""
_PORTS: Final = {"http": 80, "https": 443}
_AUTHORITY: Final = re.compile(r"(\[[^\[\]]+\]|[^\[\]:]+)(:[0-9]*)?")
"""Host and port: nothing else is behind the brackets of an IPv6 address."""
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}", re.ASCII)
_OTHER_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class LocationKind(StrEnum):
    URL = "url"
    """Tuner fetches it itself."""
    FILE = "file"
    """On this machine."""
    OBJECT = "object"
    """In a bucket."""
    EMBEDDED = "embedded"
    """An entry of the spool, into which the bytes inside documents are written. Only tunerd gives such a location."""


@positional_record
class Location:
    """Where the bytes of a recording are."""

    kind: LocationKind
    text: str
    """An http or https URL as it was given (it may be signed); `file:///path` with everything unusual escaped; `s3://`,
    `gs://` or `az://bucket/key`, the key as it was given; `embedded:NAME`."""

    @property
    def path(self) -> str:
        """Of a file: its absolute path, in the form of the `os` module (odd bytes are lone surrogates)."""
        if self.kind is not LocationKind.FILE:
            raise ValueError("only a file has a path")
        return unquote_to_bytes(self.text.removeprefix("file://")).decode("utf-8", "surrogateescape")


def bucket_of(text: str) -> str:
    """Scheme and bucket of an object's location."""
    return "/".join(text.split("/")[:3])


def host_of(url: str) -> tuple[str, int]:
    """Whom one asks for a stored URL: name or address of the host, and its port."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def bare(text: str) -> str:
    """What tells a stored location from others: a URL without its query, which is signed anew for each description."""
    return text.partition("?")[0] if stored_location(text).kind is LocationKind.URL else text


class BadLocation(ValueError):
    """The text is no location that may be used. Says what is wrong, for a sentence that begins with the name of the rule."""


def parse_location(text: str, *, files: Sequence[str]) -> Location:
    """The location that a text names. `files`: absolute directories; a file has to be below one of them.

    Raises BadLocation. Whether a file is there, and what is behind links, is not looked at here.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower() if colon else ""
    if scheme in ("http", "https"):
        return _url(text)
    if text.startswith("/") and not text.startswith("//"):
        return _file(text, files)
    if scheme == "file" and rest.startswith("//"):
        return _file(_path_of_url(rest[2:]), files)
    if scheme in ("s3", "gs", "az") and rest.startswith("//"):
        return _object(scheme, rest[2:])
    raise BadLocation(f"is no location of a recording{_instead(text)}")


@positional_record
class LocationPolicy:
    """Which locations reach Tuner; `audio:` of a source says so."""

    kinds: frozenset[LocationKind] = frozenset({LocationKind.URL})
    files: tuple[str, ...] = ()
    """Absolute directories."""

    @staticmethod
    def any_of(policies: "Iterable[LocationPolicy]") -> "LocationPolicy":
        """What one of them allows."""
        listed = [LocationPolicy(), *policies]
        kinds = frozenset(kind for one in listed for kind in one.kinds)
        return LocationPolicy(kinds, tuple(dict.fromkeys(directory for one in listed for directory in one.files)))

    def parse(self, text: str) -> Location:
        """As `parse_location`; raises BadLocation for a location, too, that does not reach Tuner."""
        location = parse_location(text, files=self.files if LocationKind.FILE in self.kinds else ("/",))
        if location.kind in self.kinds:
            return location
        cannot = "and Tuner can fetch only an http or https URL"
        if location.kind is LocationKind.FILE:
            raise BadLocation(f"is a file on this machine, {cannot}: set `audio: upload` for the source of the calls")
        say = "set `audio: presign` or `audio: upload` for the source of the calls"
        raise BadLocation(f"is an object in a bucket, {cannot}: {say}")


URLS: Final = LocationPolicy()
"""Of `audio: reject`."""


def url_location(text: str) -> Location:
    """A location that is an http or https URL; raises BadLocation for every other text."""
    return URLS.parse(text)


def stored_location(text: str) -> Location:
    """The location of a text that the ledger kept: it was parsed when it came."""
    scheme = text.partition(":")[0].lower()
    if scheme in ("http", "https"):
        return Location(LocationKind.URL, text)
    if scheme in ("file", "embedded"):
        return Location(LocationKind(scheme), text)
    return Location(LocationKind.OBJECT, text)


def without_secrets(text: str) -> str:
    """The text of a stored location that nobody fetches any more: a URL loses its query, fragment, user and password."""
    if not any(mark in text for mark in "?#@") or stored_location(text).kind is not LocationKind.URL:
        return text
    parts = urlsplit(text)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def file_location(path: str) -> Location:
    """Of a file that tunerd found itself, by its absolute path (odd bytes as lone surrogates)."""
    return Location(LocationKind.FILE, "file://" + quote(path.encode("utf-8", "surrogateescape")))


def _url(text: str) -> Location:
    if (odd := _NOT_IN_A_URL.search(text)) is not None:
        say = f"it has {_named(odd[0])} at character {odd.start() + 1}; escape it (`url_quote`), or take it out"
        raise BadLocation(f"is no URL: {say}")
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise BadLocation("is no URL: its host or port cannot be read") from None
    if not host or not _is_host(host) or not _AUTHORITY.fullmatch(parts.netloc.rpartition("@")[2]):
        raise BadLocation("is a URL without a host that could be asked")
    return Location(LocationKind.URL, text)


def _is_host(host: str) -> bool:
    if ":" in host:
        return True  # an IPv6 address; urlsplit has checked the brackets
    return len(host) <= 253 and _NAME.fullmatch(host) is not None


def _path_of_url(rest: str) -> str:
    """The path of a file URL, from what is behind its `file://`."""
    if (odd := _NOT_IN_A_URL.search(rest)) is not None:
        raise BadLocation(f"is no file URL: it has {_named(odd[0])}; escape it (`url_quote`), or give the plain path")
    if not rest.startswith("/"):
        raise BadLocation("is a file URL of another host; write file:/// and the absolute path")
    if "?" in rest or "#" in rest or _BAD_ESCAPE.search(rest):
        raise BadLocation("is no file URL: ?, # and % of a file's name have to be escaped in it, or give the plain path")
    return unquote_to_bytes(rest).decode("utf-8", "surrogateescape")


def _file(path: str, files: Sequence[str]) -> Location:
    if _CONTROL.search(path):
        raise BadLocation("is no path of a recording: it has a control character")
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise BadLocation("is no path of a recording: it has half a character") from None
    if ".." in path.split("/"):
        raise BadLocation("is a path with `..` in it, which could lead out of its directory: give the path without it")
    if path.endswith("/"):
        raise BadLocation("is a directory, not a file")
    whole = "/" + posixpath.normpath(path).lstrip("/")
    if not any(whole.startswith(directory.rstrip("/") + "/") for directory in files):
        say = "tunerd reads recordings only below `in:` of its strategies `file`, and below the directories of `audio.files`"
        raise BadLocation(
            f"is a file outside the directories that this source may read: {say}; add its directory to `audio.files`"
        )
    return file_location(whole)


def _object(scheme: str, rest: str) -> Location:
    bucket, _, key = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise BadLocation("is an object without the name of a bucket that could be one: write s3://bucket/key")
    if _CONTROL.search(key) or _HALF.search(key):
        raise BadLocation("is no object of a bucket: its key has a control character, or half of one")
    if not key or key.endswith("/"):
        raise BadLocation("is a bucket or a folder in it, not an object: write s3://bucket/key")
    return Location(LocationKind.OBJECT, f"{scheme}://{bucket}/{key}")


def _instead(text: str) -> str:
    if text.startswith("//"):
        return ": put `https:` in front of it with concat()"
    if _OTHER_SCHEME.match(text):
        return ": it takes http, https, file, s3, gs and az"
    return ": not a bare path or a storage key; build a URL or an absolute path with concat()"


def _named(odd: str) -> str:
    if odd.isspace():
        return "a blank or line end"
    return "a control or invisible character" if not odd.isprintable() else f"`{odd}`"
