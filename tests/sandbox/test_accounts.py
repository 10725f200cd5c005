"""What the stand-in answers: every row of the shared table over real HTTP, then keys, query, known ids, encodings."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.bodies import BODIES, Body, create_body, send_body
from tests.sandbox.conftest import KEYS, QUERY, Client
from tunerd.call import Form
from tunerd.sandbox.faults import Faults
from tunerd.sandbox.server import CALL_PATH, Sandbox


def _fields(errors: object) -> list[str]:
    assert isinstance(errors, list)
    return [error["field"] for error in errors]


async def test_every_body_of_the_table_gets_its_answer(client: Client) -> None:
    """Each row of tests/bodies.py is accepted, or refused with 422 that names its field and quotes no value."""
    wrong: list[tuple[str, int, bytes]] = []
    for number, row in enumerate(BODIES):
        reply = await client.post(row.json(), form=row.form, query={**QUERY, "agent_remote_identifier": f"agent-{number}"})
        fits = reply.status == 200 if row.accepted else reply.status == 422 and row.field in _fields(reply.json["errors"])
        if not fits:
            wrong.append((str(row), reply.status, reply.raw))
    assert not wrong


def test_the_table_is_large_and_its_names_are_unique() -> None:
    """At least 60 rows, and a name says which one failed."""
    assert len(BODIES) >= 60
    assert len({str(row) for row in BODIES}) == len(BODIES)
    assert {row.accepted for row in BODIES if row.form is Form.SEND_CALLS} == {True, False}


async def test_send_calls_answers_in_its_own_form(client: Client) -> None:
    """Form 1: success, the call's id, Tuner's id, a message, and nothing else."""
    reply = await client.post(form=Form.SEND_CALLS)
    tuner_id = reply.json["tunerCallId"]
    assert reply.status == 200
    assert reply.json == {
        "success": True,
        "callId": "call_12345",
        "tunerCallId": tuner_id,
        "message": "Call data received successfully.",
    }
    assert re.fullmatch(r"tc_[0-9a-f]{12}", str(tuner_id))


async def test_create_call_answers_in_its_own_form(client: Client) -> None:
    """Form 2: a number, the call's id, is_new, and nothing else."""
    reply = await client.post()
    assert (reply.status, reply.json) == (200, {"id": 1, "provider_call_id": "call_12345", "is_new": True})


async def test_create_call_keeps_each_id_once(client: Client, sandbox: Sandbox) -> None:
    """A second body with the same id is answered 409 and not accepted; another agent or workspace has its own ids."""
    first = await client.post()
    again = await client.post(create_body(recording_url="https://audio.example/other.wav"))
    agent = await client.post(query={**QUERY, "agent_remote_identifier": "other"})
    workspace = await client.post(query={**QUERY, "workspace_id": "43"})
    assert [each.status for each in (first, again, agent, workspace)] == [200, 409, 200, 200]
    assert again.json["success"] is False
    assert [(arrival.status, arrival.attempt) for arrival in sandbox.received] == [(200, 1), (409, 2), (200, 1), (200, 1)]


async def test_send_calls_takes_a_repeat(client: Client, sandbox: Sandbox) -> None:
    """With send-calls a lost answer can repeat a call: both are accepted, under two of Tuner's ids."""
    first, second = await client.post(form=Form.SEND_CALLS), await client.post(form=Form.SEND_CALLS)
    assert (first.status, second.status) == (200, 200)
    assert first.json["tunerCallId"] != second.json["tunerCallId"]
    assert len(sandbox.accepted["call_12345"]) == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": "Basic a2V5"}, 401),
        ({"Authorization": "tr_api_1"}, 401),
        ({"X-API-Key": "good", "Authorization": "Bearer good"}, 401),
        ({"X-API-Key": "key-1"}, 401),
        ({"Authorization": "Bearer tr_api_1"}, 401),
        ({"Authorization": "Bearer good"}, 200),
    ],
)
async def test_keys(client: Client, sandbox: Sandbox, headers: Mapping[str, str], status: int) -> None:
    """One of the two headers, with the required key; everything else is 401 and accepts nothing."""
    sandbox.faults.require_key = "good"
    reply = await client.post(headers=headers)
    assert reply.status == status
    assert bool(sandbox.accepted) == (status == 200)


async def test_an_empty_object_tells_a_good_key_from_a_bad_one(client: Client, sandbox: Sandbox) -> None:
    """`{}` with a good key is 422, with a bad one 401: what `check --online` asks."""
    sandbox.faults.require_key = ("good", "tr_api_1")
    assert (await client.post({}, form=Form.CREATE_CALL)).status == 422
    assert (await client.post({}, headers={"X-API-Key": "good"})).status == 422
    assert (await client.post({}, headers={"X-API-Key": "bad"})).status == 401
    assert not sandbox.accepted


async def test_a_forbidden_agent_is_403_and_others_pass(client: Client, sandbox: Sandbox) -> None:
    """A key may be good for one agent and not for another."""
    sandbox.faults.forbid_agents = ("other",)
    assert (await client.post(query={**QUERY, "agent_remote_identifier": "other"})).status == 403
    assert (await client.post()).status == 200


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({}, ["query.workspace_id", "query.agent_remote_identifier"]),
        ({"workspace_id": "42"}, ["query.agent_remote_identifier"]),
        ({"agent_remote_identifier": "a"}, ["query.workspace_id"]),
        ({"workspace_id": "my-space", "agent_remote_identifier": "a"}, ["query.workspace_id"]),
        ({"workspace_id": "42", "agent_remote_identifier": ""}, ["query.agent_remote_identifier"]),
    ],
)
async def test_both_query_parameters_are_required(client: Client, query: Mapping[str, str], fields: list[str]) -> None:
    """The workspace is a number, the agent a text; 400 says which is wrong."""
    reply = await client.post(query=query)
    assert (reply.status, _fields(reply.json["errors"])) == (400, fields)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"call_id": NaN}', b'{"call_id": "\xff"}', b"[" * 100_000])
async def test_what_is_no_json_object_is_400(client: Client, body: bytes) -> None:
    """A body that cannot be read is told apart from one that is read and refused."""
    reply = await client.post(body)
    assert (reply.status, reply.json["success"]) == (400, False)


async def test_a_body_is_refused_with_400_where_asked(client: Client, sandbox: Sandbox) -> None:
    """Tuner's documents do not say whether an invalid body is 400 or 422; both can be had."""
    sandbox.faults.reject = 400
    assert (await client.post(create_body(call_id=""))).status == 400


async def test_another_content_type_is_415(client: Client) -> None:
    """The endpoint takes JSON that says so."""
    assert (await client.post(more_headers={"Content-Type": "text/plain"})).status == 415
    assert (await client.post(more_headers={"Content-Type": "application/json; charset=utf-8"})).status == 200


async def test_gzip_bodies_are_taken(client: Client, sandbox: Sandbox) -> None:
    """A compressed body counts as what it says; its hash is that of the plain bytes."""
    plain = orjson.dumps(create_body())
    reply = await client.post(gzip.compress(plain), more_headers={"Content-Encoding": "gzip"})
    arrival = sandbox.received[0]
    assert (reply.status, arrival.compressed, arrival.body) == (200, True, plain)
    assert arrival.sha256 == hashlib.sha256(plain).hexdigest()


async def test_a_body_that_is_not_gzip_is_400(client: Client) -> None:
    """A wrong Content-Encoding is the client's mistake, not a crash."""
    reply = await client.post(b'{"call_id": "a"}', more_headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.json["success"]) == (400, False)


@pytest.mark.parametrize("compressed", [False, True])
async def test_a_body_over_the_limit_is_413(session: aiohttp.ClientSession, compressed: bool) -> None:
    """The limit counts plain bytes, so that a small compressed body cannot grow past it."""
    body = orjson.dumps(create_body())
    async with Sandbox(faults=Faults(max_body_bytes=len(body))) as sandbox:
        client = Client(session, sandbox)
        assert (await client.post(body)).status == 200
        longer = body + b" "
        more_headers = {"Content-Encoding": "gzip"} if compressed else {}
        assert (await client.post(gzip.compress(longer) if compressed else longer, more_headers=more_headers)).status == 413
        assert len(sandbox.accepted) == 1


async def test_other_paths_and_methods(client: Client, sandbox: Sandbox) -> None:
    """A wrong path is 404 in JSON, a wrong method on the right path 405; neither counts as an arrival."""
    assert (await client.get("/api/v1/public/calls")).status == 404
    reply = await client.get(CALL_PATH)
    assert (reply.status, reply.headers["Allow"]) == (405, "POST")
    assert not sandbox.received


async def test_arrivals_are_recorded(client: Client, sandbox: Sandbox) -> None:
    """Each POST leaves its form, workspace, agent, id, bytes, answer and attempt; the accepted ones are found by id."""
    body = orjson.dumps(send_body(call_id="c1"))
    await client.post(body, form=Form.SEND_CALLS)
    await client.post(create_body(call_id="c2", call_type=""))
    first, second = sandbox.received
    assert (first.form, first.workspace, first.agent, first.call_id) == (Form.SEND_CALLS, "42", "support-bot", "c1")
    assert (first.body, first.status, first.accepted, first.rows, first.attempt) == (body, 200, True, 2, 1)
    assert (second.form, second.status, second.accepted) == (Form.CREATE_CALL, 422, False)
    assert [each.field for each in second.problems] == ["call_type"]
    assert sandbox.accepted == {"c1": [first]}
    assert sandbox.counts == {"accepted": 1, "refused": 1}


async def test_only_the_newest_are_kept(session: aiohttp.ClientSession) -> None:
    """`keep` bounds the memory of a long run; counts and known ids go on."""
    async with Sandbox(keep=2) as sandbox:
        client = Client(session, sandbox)
        for call_id in ("a", "b", "c"):
            await client.post(create_body(call_id=call_id))
        assert [arrival.call_id for arrival in sandbox.received] == ["b", "c"]
        assert sandbox.total == 3
        assert (await client.post(create_body(call_id="a"))).status == 409


async def test_without_checks_everything_with_a_key_is_counted(session: aiohttp.ClientSession) -> None:
    """The benchmark's mode: no reading, no records, an answer of the right form."""
    async with Sandbox(check=False) as sandbox:
        client = Client(session, sandbox)
        created, sent = await client.post(b"{}"), await client.post(b"no json", form=Form.SEND_CALLS)
        refused = await client.post(headers={})
        await sandbox.wait_for(lambda _: sandbox.total == 3)
        assert (created.json["is_new"], sent.json["success"], refused.status) == (True, True, 401)
        assert (list(sandbox.received), sandbox.counts) == ([], {"accepted": 2, "no key": 1})


async def test_the_journal_has_the_arrival_before_the_client_has_the_answer(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """One JSON line an arrival, without the body, appended to what was there, complete while the answer is still held."""
    path = tmp_path / "journal.ndjson"
    path.write_bytes(b'{"number":0}\n')
    async with Sandbox(journal=path) as sandbox:
        client = Client(session, sandbox)
        reply = await client.post(create_body(recording_url="https://audio.example/a.wav?token=secret"))
        _, line = path.read_bytes().splitlines()
        assert reply.status == 200
        assert b"secret" not in line
        assert b"library" not in line
        assert orjson.loads(line)["sha256"] == sandbox.received[0].sha256
        assert orjson.loads(line)["accepted"] is True


async def test_what_was_received_outlives_a_restart(client: Client, sandbox: Sandbox) -> None:
    """An outage is stop() and start() on the same port: known ids stay known."""
    port = int(sandbox.url.rpartition(":")[2])
    await client.post()
    await sandbox.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await client.post()
    await sandbox.start(port=port)
    assert (await client.post()).status == 409


@pytest.mark.parametrize("row", [row for row in BODIES if row.name == "bare {role, content} messages"], ids=str)
async def test_form_one_as_it_stands_on_the_page(client: Client, row: Body) -> None:
    """The seed case of the contract: bare messages, X-API-Key, both query parameters."""
    reply = await client.post(row.json(), headers=KEYS[Form.SEND_CALLS])
    assert reply.json["callId"] == row.body["call_id"]
