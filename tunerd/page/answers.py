"""Responses of the status page: a page, or one line of JSON that says why not."""

from collections.abc import Sequence

from aiohttp import web

from tunerd.ops.encoding import encoded
from tunerd.page.frame import Viewer, page
from tunerd.page.markup import Html


def page_answer(
    title: str, parts: Sequence[Html], viewer: Viewer, version: str, *, live: bool = False, status: int = 200
) -> web.Response:
    body = page(title, parts, viewer, version, live=live)
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")


def error_answer(why: str, status: int) -> web.Response:
    return web.Response(body=encoded({"error": why}) + b"\n", status=status, content_type="application/json")
