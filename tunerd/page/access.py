"""Who may do what on the status page: sessions after a login with the token, and how often a wrong token may be tried. The time
is passed in, in monotonic seconds.
"""

import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tunerd.record import record

SESSION_S: Final = 8 * 3600.0
"""A session ends this long after its login, used or not."""
IDLE_S: Final = 3600.0
"""And this long after its last request."""
MOST_SESSIONS: Final = 32
"""For one more, the one that was used least recently ends."""
WRONG_TOKENS: Final = 5
"""This many from one address within WINDOW_S; then that address has to wait."""
WINDOW_S: Final = 60.0
_MOST_ADDRESSES: Final = 1000


@record
class Result:
    """What an action did, for the page that is shown after it."""

    title: str
    lines: Sequence[str] = ()
    again: Mapping[str, str] = field(default_factory=dict)
    """The form that continues with the rest; empty: nothing is left."""
    path: str = ""
    """Where that form goes."""


@dataclass(slots=True, kw_only=True)
class Session:
    csrf: str
    token: bytes
    """Digest of the token of its login: another token in the file ends the session."""
    began_at: float
    used_at: float
    result: Result | None = None


class Sessions:
    """In memory: a restart ends them all."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, token: str, now: float) -> str:
        """The value for the cookie."""
        name = secrets.token_urlsafe(32)
        self._sessions[name] = Session(csrf=secrets.token_urlsafe(32), token=digest(token), began_at=now, used_at=now)
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return name

    def get(self, name: str, token: str, now: float) -> Session | None:
        """The session of a cookie; None: there is none (any more)."""
        session = self._sessions.get(name)
        if session is None:
            return None
        is_over = now - session.began_at > SESSION_S or now - session.used_at > IDLE_S
        if is_over or not hmac.compare_digest(session.token, digest(token)):
            del self._sessions[name]
            return None
        session.used_at = now
        self._sessions.move_to_end(name)
        return session

    def end(self, name: str) -> None:
        self._sessions.pop(name, None)


class LoginLimit:
    """Counts wrong tokens by address (by /64 network for IPv6)."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[str, list[float]] = OrderedDict()

    def wait_s(self, address: str, now: float) -> float:
        """How long this address has to wait before its next try; 0: it need not."""
        wrong = [at for at in self._wrong.get(_network(address), ()) if now - at < WINDOW_S]
        return 0.0 if len(wrong) < WRONG_TOKENS else wrong[-WRONG_TOKENS] + WINDOW_S - now

    def note_wrong(self, address: str, now: float) -> None:
        network = _network(address)
        self._wrong[network] = [*self._wrong.get(network, ())[-WRONG_TOKENS:], now]
        self._wrong.move_to_end(network)
        while len(self._wrong) > _MOST_ADDRESSES:
            self._wrong.popitem(last=False)


def digest(token: str) -> bytes:
    return hmac.digest(b"tunerd", token.encode("utf-8", "backslashreplace"), "sha256")


def is_same(one: str, other: str) -> bool:
    """Compares secrets in constant time."""
    return hmac.compare_digest(digest(one), digest(other))


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address
