"""The one place where the token of the status page is read; its text never leaves it but as the return value."""

from typing import Final

from tunerd.config.text_forms import is_key

_MIN_CHARS: Final = 16
_MAX_BYTES: Final = 1024


class TokenUnusable(Exception):
    """Nobody can log in: the file is missing, not readable, or holds what is no token. The message names the file, never its
    content."""


def read_token(path: str) -> str:
    """The token as it is now, without the line end of its file. Reads the file at each call; raises TokenUnusable."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as exc:
        raise TokenUnusable(f"the token file {path} cannot be read: {exc.strerror or type(exc).__name__}") from None
    token = raw.strip().decode("ascii", "replace")
    if len(raw) > _MAX_BYTES or (token and not is_key(token)):
        raise TokenUnusable(f"the token file {path} holds more than a token: a single line of visible ASCII characters is wanted")
    if len(token) < _MIN_CHARS:
        raise TokenUnusable(f"the token in {path} is shorter than {_MIN_CHARS} characters: write one with openssl rand -hex 32")
    return token
