"""The request that `explain --body` shows is the one that delivery posts."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.mapping.sources import document
from tests.workbench.made import CONFIG, call
from tunerd.call import Form
from tunerd.clock import SystemClock
from tunerd.config import Delivery, Secret
from tunerd.delivery.key import Key
from tunerd.delivery.upload import Uploader, open_session
from tunerd.loading.config_file import load_text
from tunerd.workbench.compiled import compile_config
from tunerd.workbench.request import RequestPreview, request_of

Seen = list[tuple[str, dict[str, str], bytes]]


@pytest.fixture
async def server() -> AsyncIterator[tuple[TestServer, Seen]]:
    seen: Seen = []

    async def take(request: web.Request) -> web.Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("Host", "Content-Length")}
        seen.append((str(request.url), headers, await request.read()))
        return web.json_response({"success": True})

    app = web.Application()
    app.router.add_post("/{any:.*}", take)
    running = TestServer(app)
    await running.start_server()
    yield running, seen
    await running.close()


@pytest.mark.parametrize("form", list(Form))
async def test_url_headers_and_body_are_those_of_a_real_attempt(server: tuple[TestServer, Seen], form: Form) -> None:
    """Byte for byte, but for the hidden key."""
    running, seen = server
    text = CONFIG.replace("workspace_id: 42", f'workspace_id: 42, base_url: "http://127.0.0.1:{running.port}/behind/a/proxy"')
    text = text.replace("support-bot", '"agent & söhne"')
    config = load_text(text, "/nowhere/config.yaml", {}, resolve_secrets=False)
    compiled = compile_config(config, {}, {}, form)["agent"]
    made = compiled.mapping.map(document(call(audio="https://audio.example/a.wav"))).call
    assert made is not None
    shown = request_of(made, compiled)
    assert isinstance(shown, RequestPreview)
    destination = replace(config.destinations[0], api=form.value)
    key = Key(replace(destination, api_key=Secret("a-key")))
    async with open_session() as session:
        await Uploader(session, destination, key, Delivery(), SystemClock(), {}).post(shown.body, made.agent, form)
    ((url, headers, body),) = seen
    assert (shown.url, shown.body) == (url, body)
    assert {name: value.replace("(hidden)", "a-key") for name, value in shown.headers.items()} == headers
