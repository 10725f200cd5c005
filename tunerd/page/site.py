"""The paths of the status page, and who gets an answer: known host names only; without a token only readers on this machine;
actions only with a session and its CSRF token. Everything that is shown or done is an order to admin/.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files
from time import monotonic
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from tunerd.admin.api import Admin, CallsOrder, OrderRefused, StatusOrder, StoryOrder
from tunerd.call import State
from tunerd.config.admin_token import TokenUnusable, read_token
from tunerd.ledger import LedgerUnavailable
from tunerd.ops.encoding import encoded
from tunerd.ops.hosts import is_answered
from tunerd.page.access import LoginLimit, Result, Session, Sessions, is_same
from tunerd.page.actions import act
from tunerd.page.call_parts import failed_list, story
from tunerd.page.frame import Viewer, card, form, page
from tunerd.page.markup import NOTHING, Html, tag
from tunerd.page.overview import Overview, overview

ANSWER_S: Final = 5.0
"""How long the ledger may take before the page says that it does not answer."""
FAILED_SHOWN: Final = 500
"""Failed calls that are grouped by reason: the newest ones."""
_OLDEST_SHOWN: Final = 8
_LIST_SHOWN: Final = 50
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
_ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
_OPEN_PATHS: Final = frozenset({"/login", *(f"/{name}" for name in _ASSETS)})
"""Answered without a token, whatever the address: nothing of a call is in them."""

Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteSettings:
    """What a reload may change, and what is known only once the port is open."""

    version: str
    hosts: Callable[[], Collection[str]]
    token_file: Callable[[], str | None]
    is_on_loopback: Callable[[], bool]


class Site:
    """`routes` and `middleware` are for an HttpServer."""

    def __init__(self, admin: Admin, settings: SiteSettings, now: Callable[[], float] = monotonic) -> None:
        self._admin = admin
        self._settings = settings
        self._now = now
        self._sessions = Sessions()
        self._limit = LoginLimit()

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/", self._shown(self._overview)), web.get("/status.json", self._status_json),
            web.get("/call", self._shown(self._call)), web.get("/failed", self._shown(self._failed)),
            web.get("/done", self._done), web.get("/login", self._login_page), web.post("/login", self._log_in),
            web.post("/logout", self._log_out), web.post("/actions/{verb}", self._act),
            *(web.get(f"/{name}", _asset(name, kind)) for name, kind in _ASSETS.items()),
        ]  # fmt: skip

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

    # Who gets an answer.

    async def _refusal(self, request: web.Request) -> web.StreamResponse | None:
        """The answer to whoever may not have this page; None: it may be answered."""
        host = request.headers.getall("Host", [])
        if len(host) != 1 or not is_answered(host[0], self._settings.hosts()):
            return _error("unknown host name: use an IP address or localhost, or add the name to http.hosts", 403)
        if request.method == "POST" and not _is_from_here(request, host[0]):
            return _error("the request comes from another site", 403)
        if self._settings.is_on_loopback() or request.path in _OPEN_PATHS:
            return None
        if await self._has_bearer(request):
            return None
        if (wait_s := self._limit.wait_s(request.remote or "", self._now())) > 0 and "Authorization" in request.headers:
            return _too_often(wait_s)
        if await self._session(request) is not None:
            return None
        if request.path == "/status.json" or request.method == "POST":
            return _error("send the token of http.admin_token_file as `Authorization: Bearer TOKEN`", 401)
        raise web.HTTPSeeOther("/login")

    async def _has_bearer(self, request: web.Request) -> bool:
        """Whether the request brings the right token; a wrong one counts as a try."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return False
        return await self._is_right(request, given.strip())

    async def _is_right(self, request: web.Request, given: str) -> bool:
        """Whether it is the token. False also while this address has to wait."""
        address, now = request.remote or "", self._now()
        if self._limit.wait_s(address, now) > 0:
            return False
        token = await self._token()
        if token is not None and is_same(given, token):
            return True
        self._limit.note_wrong(address, now)
        return False

    async def _token(self) -> str | None:
        path = self._settings.token_file()
        try:
            return None if path is None else await asyncio.to_thread(read_token, path)
        except TokenUnusable:
            return None

    async def _session(self, request: web.Request) -> Session | None:
        name = request.cookies.get(_cookie(request))
        token = await self._token() if name else None
        return self._sessions.get(name, token, self._now()) if name and token is not None else None

    async def _viewer(self, request: web.Request) -> Viewer:
        session = await self._session(request)
        return Viewer(csrf=session.csrf if session else "", can_log_in=self._settings.token_file() is not None)

    # Login.

    async def _login_page(self, request: web.Request) -> web.StreamResponse:
        return self._login(await self._viewer(request), "", 200)

    def _login(self, viewer: Viewer, problem: str, status: int) -> web.Response:
        if not viewer.can_log_in:
            words = tag("p", "Actions are off. To log in, set ", tag("code", "http.admin_token_file"), ", and reload.")
            return self._page("Log in", [card("Log in", words)], viewer, status=status)
        field = tag("input", type="password", name="token", aria_label="token", required=True, autocomplete="current-password")
        words = tag("p", "The token is in the file that ", tag("code", "http.admin_token_file"), " names.")
        fault = tag("p", problem, class_="wrong", role="alert") if problem else NOTHING
        asks = tag("form", field, " ", tag("button", "Log in", class_="main"), action="/login", method="post")
        return self._page("Log in", [card("Log in", words, asks, fault)], viewer, status=status)

    async def _log_in(self, request: web.Request) -> web.StreamResponse:
        viewer = Viewer(can_log_in=self._settings.token_file() is not None)
        if (wait_s := self._limit.wait_s(request.remote or "", self._now())) > 0:
            answer = self._login(viewer, f"Too many wrong tokens. Try again in {wait_s:.0f} s.", 429)
            answer.headers["Retry-After"] = f"{wait_s:.0f}"
            return answer
        path = self._settings.token_file()
        if path is not None:
            try:
                await asyncio.to_thread(read_token, path)
            except TokenUnusable as exc:
                return self._login(viewer, f"Nobody can log in: {exc}.", 503)
        given = str((await request.post()).get("token", "")).strip()
        if not await self._is_right(request, given):
            return self._login(viewer, "This is not the token.", 403)
        found = web.Response(status=303, headers={"Location": "/"})
        found.set_cookie(_cookie(request), self._sessions.begin(given, self._now()), httponly=True, samesite="Strict", path="/")
        return found

    async def _log_out(self, request: web.Request) -> web.StreamResponse:
        await self._checked(request)
        self._sessions.end(request.cookies.get(_cookie(request), ""))
        gone = web.Response(status=303, headers={"Location": "/"})
        gone.del_cookie(_cookie(request), path="/")
        return gone

    async def _checked(self, request: web.Request) -> Session:
        """The session of a request that changes something; its form has the session's CSRF token."""
        session = await self._session(request)
        if session is None:
            raise web.HTTPForbidden(text="log in first: the session is over, or there was none")
        if not is_same(str((await request.post()).get("csrf", "")), session.csrf):
            raise web.HTTPForbidden(text="this form belongs to another session: go back, reload the page, and try again")
        return session

    # Actions.

    async def _act(self, request: web.Request) -> web.StreamResponse:
        session = await self._checked(request)
        fields = {name: value for name, value in (await request.post()).items() if isinstance(value, str) and name != "csrf"}
        try:
            session.result = await act(self._admin, request.match_info["verb"], fields)
        except (OrderRefused, LedgerUnavailable) as exc:
            session.result = Result(title="Nothing was changed", lines=[str(exc)])
        raise web.HTTPSeeOther("/done")

    async def _done(self, request: web.Request) -> web.StreamResponse:
        session = await self._session(request)
        viewer = await self._viewer(request)
        if session is None or session.result is None:
            raise web.HTTPSeeOther("/")
        result = session.result
        again = form(result.path, viewer, result.again, "Continue with the rest") if result.again else NOTHING
        lines = [tag("p", line) for line in result.lines]
        return self._page(result.title, [card(result.title, *lines, again, tag("p", tag("a", "Back", href="/")))], viewer)

    # Pages.

    def _shown(self, body: Callable[[web.Request, Viewer], Awaitable[tuple[str, Sequence[Html], bool]]]) -> Respond:
        """A page from the ledger; while that does not answer, a page that says so and tries again."""

        async def handle(request: web.Request) -> web.StreamResponse:
            viewer = await self._viewer(request)
            try:
                async with asyncio.timeout(ANSWER_S):
                    title, parts, is_live = await body(request, viewer)
            except OrderRefused as exc:
                return self._page("Not possible", [card("Not possible", tag("p", str(exc)))], viewer, status=400)
            except (LedgerUnavailable, TimeoutError) as exc:
                title, words = "The ledger cannot be read", str(exc) or f"it did not answer within {ANSWER_S:g} s"
                return self._page(title, [card(title, tag("p", words, class_="wrong"))], viewer, live=True, status=503)
            return self._page(title, parts, viewer, live=is_live)

        return handle

    async def _overview(self, _: web.Request, viewer: Viewer) -> tuple[str, Sequence[Html], bool]:
        status = await self._admin.ask(StatusOrder())
        failed = CallsOrder(states=frozenset({State.FAILED}), newest=True, limit=FAILED_SHOWN)
        calls = (await self._admin.ask(failed)).calls if status.calls[State.FAILED.value].count else []
        oldest = [
            call
            for state in (State.GATHERING, State.WAITING, State.DUE)
            if status.calls[state.value].count
            for call in (await self._admin.ask(CallsOrder(states=frozenset({state}), limit=_OLDEST_SHOWN))).calls
        ]
        oldest.sort(key=lambda call: call.admitted_at)
        paused = any(one.pause is not None for one in status.destinations)
        title = "paused" if paused else "stopping" if status.daemon.stopping else "running"
        return title, overview(Overview(status=status, failed=calls, oldest=oldest[:_OLDEST_SHOWN]), viewer), True

    async def _call(self, request: web.Request, viewer: Viewer) -> tuple[str, Sequence[Html], bool]:
        call_id = request.query.get("id", "").strip()
        found = (await self._admin.ask(StoryOrder(call_id=call_id))).stories
        if not found:
            words = "The ledger holds no call with this id. `tunerd explain FILE` shows the id that the rules give a file."
            return call_id, [tag("h1", call_id), card("Not found", tag("p", words))], False
        return call_id, story(found, await self._admin.ask(StatusOrder()), viewer), True

    async def _failed(self, request: web.Request, viewer: Viewer) -> tuple[str, Sequence[Html], bool]:
        reason, after = request.query.get("reason", ""), request.query.get("after_row", "0")
        after_row = int(after) if after.isascii() and after.isdigit() and len(after) < 18 else 0
        order = CallsOrder(states=frozenset({State.FAILED}), reasons=frozenset({reason}), newest=True, limit=_LIST_SHOWN,
                           after_row=after_row)  # fmt: skip
        status, found = await self._admin.ask(StatusOrder()), await self._admin.ask(order)
        return f"failed: {reason}", failed_list(reason, found, status.generated_at, viewer), False

    async def _status_json(self, _: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(ANSWER_S):
                document = await self._admin.ask(StatusOrder())
        except TimeoutError:
            return _error(f"the ledger did not answer within {ANSWER_S:g} s", 503)
        except LedgerUnavailable as exc:
            return _error(str(exc), 503)
        return web.Response(body=encoded(document, indent=True) + b"\n", content_type="application/json")

    def _page(self, title: str, parts: Sequence[Html], viewer: Viewer, *, live: bool = False, status: int = 200) -> web.Response:
        body = page(title, parts, viewer, self._settings.version, live=live)
        return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")


def _asset(name: str, kind: str) -> Respond:
    async def handle(_: web.Request) -> web.StreamResponse:
        text = (files("tunerd.page") / "assets" / name).read_bytes()
        return web.Response(body=text, content_type=kind, charset="utf-8")

    return handle


def _is_from_here(request: web.Request, host: str) -> bool:
    """Browsers name the site of the page that posts; what is no browser names none."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    return site in ("same-origin", "none") and (origin is None or urlsplit(origin).netloc.lower() == host.strip().lower())


def _cookie(request: web.Request) -> str:
    """With the port: cookies do not keep those of two daemons on one host apart."""
    port = request.headers.get("Host", "").rpartition(":")[2]
    return f"tunerd_session_{port}" if port.isascii() and port.isdigit() else "tunerd_session"


def _error(why: str, status: int) -> web.Response:
    return web.Response(body=encoded({"error": why}) + b"\n", status=status, content_type="application/json")


def _too_often(wait_s: float) -> web.Response:
    answer = _error(f"too many wrong tokens: try again in {wait_s:.0f} s", 429)
    answer.headers["Retry-After"] = f"{wait_s:.0f}"
    return answer
