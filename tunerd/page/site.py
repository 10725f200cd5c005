"""The paths of the status page and what they show. Everything that is shown or done is an order to admin/; who gets an answer is
decided in doorkeeper.py.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from importlib.resources import files
from time import monotonic
from typing import Final, TypeAlias

from aiohttp import web

from tunerd.admin.answer_types import StatusDocument
from tunerd.admin.api import Admin, CallsOrder, OrderRefused, StatusOrder, StoryOrder
from tunerd.call import State
from tunerd.ledger import LedgerUnavailable
from tunerd.ops.encoding import encoded
from tunerd.page.access import Result
from tunerd.page.actions import act
from tunerd.page.answers import error_answer, page_answer
from tunerd.page.call_parts import failed_list, story
from tunerd.page.doorkeeper import Doorkeeper, SiteSettings
from tunerd.page.frame import Viewer, card, form
from tunerd.page.markup import NOTHING, Html, tag
from tunerd.page.overview import Overview, overview

ANSWER_S: Final = 5.0
"""How long the ledger may take before the page says that it does not answer."""
FAILED_SHOWN: Final = 200
"""Failed calls that are grouped by reason: the newest ones."""
_OLDEST_SHOWN: Final = 8
_LIST_SHOWN: Final = 50
_ASSETS: Final = {"page.css": "text/css", "page.js": "text/javascript", "icon.svg": "image/svg+xml"}
Respond: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Site:
    """`routes` and `middleware` are for an HttpServer."""

    def __init__(self, admin: Admin, settings: SiteSettings, now: Callable[[], float] = monotonic) -> None:
        self._admin = admin
        self._version = settings.version
        self._door = Doorkeeper(settings, now, frozenset(f"/{name}" for name in _ASSETS))
        self.middleware = self._door.middleware

    def routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/", self._shown(self._overview)), web.get("/status.json", self._status_json),
            web.get("/call", self._shown(self._call)), web.get("/failed", self._shown(self._failed)),
            web.get("/done", self._done), web.post("/actions/{verb}", self._act), *self._door.routes(),
            *(web.get(f"/{name}", _asset(name, kind)) for name, kind in _ASSETS.items()),
        ]  # fmt: skip

    # Actions.

    async def _act(self, request: web.Request) -> web.StreamResponse:
        session = await self._door.checked(request)
        fields = {name: value for name, value in (await request.post()).items() if isinstance(value, str) and name != "csrf"}
        try:
            session.result = await act(self._admin, request.match_info["verb"], fields)
        except (OrderRefused, LedgerUnavailable) as exc:
            session.result = Result(title="Nothing was changed", lines=[str(exc)])
        raise web.HTTPSeeOther("/done")

    async def _done(self, request: web.Request) -> web.StreamResponse:
        session = await self._door.session(request)
        viewer = await self._door.viewer(request)
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
            viewer = await self._door.viewer(request)
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
        oldest = [call for order in _oldest_orders(status) for call in (await self._admin.ask(order)).calls]
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
            return error_answer(f"the ledger did not answer within {ANSWER_S:g} s", 503)
        except LedgerUnavailable as exc:
            return error_answer(str(exc), 503)
        return web.Response(body=encoded(document, indent=True) + b"\n", content_type="application/json")

    def _page(self, title: str, parts: Sequence[Html], viewer: Viewer, *, live: bool = False, status: int = 200) -> web.Response:
        return page_answer(title, parts, viewer, self._version, live=live, status=status)


def _oldest_orders(status: StatusDocument) -> Sequence[CallsOrder]:
    """For the oldest calls in each open state; due ones by destination, as the ledger has them in that order."""
    names = [frozenset({one.name}) for one in status.destinations]
    wanted = {State.GATHERING: [frozenset[str]()], State.WAITING: [frozenset[str]()], State.DUE: names}
    return [
        CallsOrder(states=frozenset({state}), destinations=destinations, limit=_OLDEST_SHOWN)
        for state, each in wanted.items()
        if status.calls[state.value].count
        for destinations in each
    ]


def _asset(name: str, kind: str) -> Respond:
    async def handle(_: web.Request) -> web.StreamResponse:
        text = (files("tunerd.page") / "assets" / name).read_bytes()
        return web.Response(body=text, content_type=kind, charset="utf-8")

    return handle
