"""A sandbox on a real socket, and a client that posts to it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp
import orjson
import pytest

from tests.bodies import create_body, send_body
from tunerd.call import Form, Json
from tunerd.sandbox.server import CALL_PATH, CONTROL_PATH, Sandbox

CEILING_S = 20.0
KEYS = {Form.SEND_CALLS: {"X-API-Key": "key-1"}, Form.CREATE_CALL: {"Authorization": "Bearer tr_api_1"}}
QUERY = {"workspace_id": "42", "agent_remote_identifier": "support-bot"}


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def json(self) -> dict[str, object]:
        value = orjson.loads(self.raw)
        assert isinstance(value, dict)
        return value


class Client:
    """Posts calls; a connection for each request, so that one that is dropped never disturbs the next."""

    def __init__(self, session: aiohttp.ClientSession, sandbox: Sandbox) -> None:
        self.session = session
        self.sandbox = sandbox

    async def post(
        self,
        body: Mapping[str, Json] | bytes | None = None,
        *,
        form: Form = Form.CREATE_CALL,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] = QUERY,
        more_headers: Mapping[str, str] | None = None,
    ) -> Reply:
        if body is None:
            body = create_body() if form is Form.CREATE_CALL else send_body()
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        told = {"Content-Type": "application/json", **(KEYS[form] if headers is None else headers), **(more_headers or {})}
        async with (
            asyncio.timeout(CEILING_S),
            self.session.post(
                self.sandbox.url + CALL_PATH, params=query, data=data, headers=told, allow_redirects=False
            ) as answer,
        ):
            return Reply(answer.status, answer.headers, await answer.read())

    async def control(self, said: object) -> Reply:
        async with self.session.post(self.sandbox.url + CONTROL_PATH, json=said) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def get(self, path: str) -> Reply:
        async with self.session.get(self.sandbox.url + path) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as session:
        yield session


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with Sandbox(seed=1) as sandbox:
        yield sandbox


@pytest.fixture
def client(session: aiohttp.ClientSession, sandbox: Sandbox) -> Client:
    return Client(session, sandbox)
