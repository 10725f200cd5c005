"""Who gets an answer of the status page: known host names only; on this machine every reader, elsewhere whoever has the token;
actions only in a session, with its CSRF token.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from tunerd.config.admin_token import TokenUnusable, read_token
from tunerd.ops.hosts import is_answered, is_of_this_machine
from tunerd.page.access import LoginLimit, Session, Sessions, is_same
from tunerd.page.answers import error_answer, page_answer
from tunerd.page.frame import Viewer, card
from tunerd.page.markup import NOTHING, tag
from tunerd.record import record

_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_FORMS: Final = ("application/x-www-form-urlencoded", "application/octet-stream")
"""The second is what aiohttp says if no type is given."""
_FORWARDED: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


@record
class SiteSettings:
    """What a reload may change, and what is known only once the port is open."""

    version: str
    hosts: Callable[[], Collection[str]]
    token_file: Callable[[], str | None]
    is_on_loopback: Callable[[], bool]


class Doorkeeper:
    def __init__(self, settings: SiteSettings, now: Callable[[], float], files: Collection[str]) -> None:
        """`files`: paths that are answered without a token, since nothing of a call is in them."""
        self._settings = settings
        self._now = now
        self._open_paths = {"/login", *files}
        self._sessions = Sessions()
        self._limit = LoginLimit()

    def routes(self) -> Sequence[web.RouteDef]:
        return [web.get("/login", self._login_page), web.post("/login", self._log_in), web.post("/logout", self._log_out)]

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        answer: web.StreamResponse
        try:
            answer = await self._refusal(request) or await handler(request)
        except web.HTTPException as exc:
            answer = web.Response(text=f"{exc.text or exc.reason}\n", status=exc.status)
            if location := exc.headers.get("Location"):
                answer.headers["Location"] = location
        answer.headers.update(_HEADERS)
        return answer

    async def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """The answer to whoever may not have this page; None: it may be answered."""
        host = request.headers.getall("Host", [])
        if len(host) != 1 or not is_answered(host[0], self._settings.hosts()):
            return error_answer("unknown host name: use an IP address or localhost, or add the name to http.hosts", 403)
        if request.method == "POST":
            if not _is_from_here(request, host[0]):
                return error_answer("the request comes from another site", 403)
            if request.content_type not in _FORMS:
                return error_answer("send a form as application/x-www-form-urlencoded", 415)
        if request.path in self._open_paths or (self._settings.is_on_loopback() and _is_local(request, host[0])):
            return None
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = await self._token()
            if (wait_s := self._wait_s(request)) > 0:
                return _too_often(wait_s)
            if self._is_right(request, given.strip(), token):
                return None
        if await self.session(request) is not None:
            return None
        if request.path == "/status.json" or request.method == "POST":
            return error_answer("send the token of http.admin_token_file as `Authorization: Bearer TOKEN`", 401)
        raise web.HTTPSeeOther("/login")

    def _wait_s(self, request: web.Request) -> float:
        """How long this address has to wait before it may try a token. Nothing may be awaited between this and `_is_right`: tries
        that come together are all counted."""
        return self._limit.wait_s(request.remote or "", self._now())

    def _is_right(self, request: web.Request, given: str, token: str | None) -> bool:
        """Whether `given` is the token; if not, it counts as a try."""
        if token is not None and is_same(given, token):
            return True
        self._limit.note_wrong(request.remote or "", self._now())
        return False

    async def _token(self) -> str | None:
        path = self._settings.token_file()
        try:
            return None if path is None else await asyncio.to_thread(read_token, path)
        except TokenUnusable:
            return None

    async def session(self, request: web.Request) -> Session | None:
        name = request.cookies.get(_cookie(request))
        token = await self._token() if name else None
        return self._sessions.get(name, token, self._now()) if name and token is not None else None

    async def viewer(self, request: web.Request) -> Viewer:
        session = await self.session(request)
        return Viewer(csrf=session.csrf if session else "", can_log_in=self._settings.token_file() is not None)

    # Login.

    async def _login_page(self, request: web.Request) -> web.StreamResponse:
        return self._login(await self.viewer(request), "", 200)

    def _login(self, viewer: Viewer, problem: str, status: int) -> web.Response:
        if not viewer.can_log_in:
            words = tag("p", "Actions are off. To log in, set ", tag("code", "http.admin_token_file"), ", and reload.")
            return page_answer("Log in", [card("Log in", words)], viewer, self._settings.version, status=status)
        field = tag("input", type="password", name="token", aria_label="token", required=True, autocomplete="current-password")
        words = tag("p", "The token is in the file that ", tag("code", "http.admin_token_file"), " names.")
        fault = tag("p", problem, class_="wrong", role="alert") if problem else NOTHING
        asks = tag("form", field, " ", tag("button", "Log in", class_="main"), action="/login", method="post")
        return page_answer("Log in", [card("Log in", words, asks, fault)], viewer, self._settings.version, status=status)

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        viewer = Viewer(can_log_in=self._settings.token_file() is not None)
        given = str((await request.post()).get("token", "")).strip()
        token, path = None, self._settings.token_file()
        if path is not None:
            try:
                token = await asyncio.to_thread(read_token, path)
            except TokenUnusable as exc:
                return self._login(viewer, f"Nobody can log in: {exc}.", 503)
        if (wait_s := self._wait_s(request)) > 0:
            answer = self._login(viewer, f"Too many wrong tokens. Try again in {wait_s:.0f} s.", 429)
            answer.headers["Retry-After"] = f"{wait_s:.0f}"
            return answer
        if not self._is_right(request, given, token):
            return self._login(viewer, "This is not the token.", 403)
        found = web.Response(status=303, headers={"Location": "/"})
        found.set_cookie(_cookie(request), self._sessions.begin(given, self._now()), httponly=True, samesite="Strict", path="/")
        return found

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        await self.checked(request)
        self._sessions.end(request.cookies.get(_cookie(request), ""))
        gone = web.Response(status=303, headers={"Location": "/"})
        gone.del_cookie(_cookie(request), path="/")
        return gone

    async def checked(self, request: web.Request) -> Session:
        """The session of a request that changes something; its form has the session's CSRF token."""
        session = await self.session(request)
        if session is None:
            raise web.HTTPForbidden(text="log in first: the session is over, or there was none")
        if not is_same(str((await request.post()).get("csrf", "")), session.csrf):
            raise web.HTTPForbidden(text="this form belongs to another session: go back, reload the page, and try again")
        return session


def _is_from_here(request: web.Request, host: str) -> bool:
    """Browsers name the site of the page that posts; what is no browser names none."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    return site in ("same-origin", "none") and (origin is None or origin.partition("://")[2].lower() == host.strip().lower())


def _is_local(request: web.Request, host: str) -> bool:
    """Whether a reader on this machine asks, directly or through a tunnel. A proxy names the host, or whom it forwards."""
    return is_of_this_machine(host) and not any(name in request.headers for name in _FORWARDED)


def _cookie(request: web.Request) -> str:
    """With the port: cookies do not keep those of two daemons on one host apart."""
    port = request.headers.get("Host", "").rpartition(":")[2]
    return f"tunerd_session_{port}" if port.isascii() and port.isdigit() else "tunerd_session"


def _too_often(wait_s: float) -> web.Response:
    answer = error_answer(f"too many wrong tokens: try again in {wait_s:.0f} s", 429)
    answer.headers["Retry-After"] = f"{wait_s:.0f}"
    return answer
