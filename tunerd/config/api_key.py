"""The one place where a destination's key is read; its text never leaves it but as the return value."""

import errno
from typing import Final

from tunerd.config.models import Destination
from tunerd.config.text_forms import is_key

MAX_KEY_BYTES: Final = 8192


class KeyUnusable(Exception):
    """There is no key to send: the file is missing, empty, not readable, or holds what cannot be a key. Sending resumes when
    the file is repaired. The message names the file, never its content. `local`: this process has no file descriptor left to
    open it with, which says nothing about the key."""

    def __init__(self, message: str, *, local: bool = False) -> None:
        super().__init__(message)
        self.local = local


def read_key(destination: Destination) -> str:
    """The key as it is now, without the line end of its file. Reads the file at each call; raises KeyUnusable."""
    if destination.api_key_file is None:
        if destination.api_key is None:
            raise KeyUnusable("no API key is configured: set tuner.api_key_file, tuner.api_key or TUNER_API_KEY")
        key = destination.api_key.reveal().strip()
        if not is_key(key) or len(key) > MAX_KEY_BYTES:
            raise KeyUnusable("the API key is empty, or holds what no key has (white space, several lines, not ASCII)")
        return key
    path = destination.api_key_file
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_KEY_BYTES + 1)
    except OSError as exc:
        if exc.errno in (errno.EMFILE, errno.ENFILE):
            what = f"no file descriptor is left to read the key file {path}: raise LimitNOFILE (ulimit -n) of this process"
            raise KeyUnusable(what, local=True) from None
        raise KeyUnusable(f"the key file {path} cannot be read: {exc.strerror or type(exc).__name__}") from None
    key = raw.removeprefix(b"\xef\xbb\xbf").strip().decode("ascii", "replace")
    if not key:
        raise KeyUnusable(f"the key file {path} is empty")
    if len(raw) > MAX_KEY_BYTES or not is_key(key):
        raise KeyUnusable(f"the key file {path} holds more than a key: a single line of visible ASCII characters is wanted")
    return key
