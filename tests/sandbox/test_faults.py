"""What goes wrong on purpose: each planned ending, the random ones, the limits, and changing them from outside."""

import asyncio
import random

import aiohttp
import orjson
import pytest

from tests.bodies import create_body
from tests.sandbox.conftest import CEILING_S, KEYS, QUERY, Client
from tunerd.call import Form
from tunerd.sandbox.arrivals import NOT_ANSWERED
from tunerd.sandbox.faults import (
    Bucket,
    Faults,
    FixedAnswer,
    Garbage,
    Hang,
    LoseAnswer,
    Ordinary,
    Planned,
    Redirect,
    Reset,
    parse_fail,
)
from tunerd.sandbox.server import CALL_PATH, Sandbox

# --- planned ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planned", "status", "headers", "raw"),
    [
        (FixedAnswer(503), 503, {"Content-Type": "application/json"}, b'{"success":false,"error":"planned"}'),
        (FixedAnswer(429, retry_after=7), 429, {"Retry-After": "7"}, None),
        (
            FixedAnswer(503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
            503,
            {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"},
            None,
        ),
        (FixedAnswer(200, body=b'{"success": false}'), 200, {}, b'{"success": false}'),
        (FixedAnswer(400, body=b"<p>no", content_type="text/html"), 400, {"Content-Type": "text/html"}, b"<p>no"),
        (FixedAnswer(202, body=b"", headers={"X-Hint": "1"}), 202, {"X-Hint": "1"}, b""),
        (FixedAnswer(204), 204, {}, b""),
        (Redirect("https://elsewhere.example/"), 307, {"Location": "https://elsewhere.example/"}, None),
        (Redirect("https://elsewhere.example/", 301), 301, {"Location": "https://elsewhere.example/"}, None),
        (Garbage(), 200, {"Content-Type": "text/html"}, Garbage().body),
    ],
)
async def test_planned_answers(
    client: Client, sandbox: Sandbox, planned: Planned, status: int, headers: dict[str, str], raw: bytes | None
) -> None:
    """The next request gets exactly the planned answer and accepts nothing; the one after it is ordinary."""
    sandbox.plan(planned)
    reply = await client.post()
    assert reply.status == status
    assert {name: reply.headers.get(name) for name in headers} == headers
    assert raw in (None, reply.raw)
    assert not sandbox.accepted
    assert (await client.post()).status == 200


async def test_plans_go_in_order(client: Client, sandbox: Sandbox) -> None:
    """A script of answers is followed one by one; Ordinary keeps a place in it."""
    sandbox.plan(FixedAnswer(503), Ordinary(), FixedAnswer(429))
    assert [(await client.post()).status for _ in range(4)] == [503, 200, 429, 409]


async def test_a_plan_for_a_call_leaves_the_others_alone(client: Client, sandbox: Sandbox) -> None:
    """A poison call fails each time while its neighbours pass; its own plan comes before the common one."""
    sandbox.plan(FixedAnswer(500), FixedAnswer(500), call_id="poison")
    sandbox.plan(FixedAnswer(503))
    statuses = [(await client.post(create_body(call_id=call_id))).status for call_id in ("poison", "a", "poison", "b", "poison")]
    assert statuses == [500, 503, 500, 200, 200]


async def test_a_lost_answer_is_accepted(client: Client, sandbox: Sandbox) -> None:
    """The call is there, the client hears nothing; sent again, create-call answers 409 and send-calls has it twice."""
    sandbox.plan(LoseAnswer(), Ordinary(), LoseAnswer(), Ordinary())
    for form, status in ((Form.CREATE_CALL, 409), (Form.SEND_CALLS, 200)):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.post(form=form, query={**QUERY, "agent_remote_identifier": form})
        assert (await client.post(form=form, query={**QUERY, "agent_remote_identifier": form})).status == status
    assert [arrival.accepted for arrival in sandbox.received] == [True, False, True, True]
    assert sandbox.counts["accepted, answer lost"] == 2


async def test_a_reset_accepts_nothing(client: Client, sandbox: Sandbox) -> None:
    """The connection ends with RST after the body was read."""
    sandbox.plan(Reset())
    with pytest.raises((ConnectionResetError, aiohttp.ClientOSError)):
        await client.post()
    assert [(arrival.status, arrival.accepted) for arrival in sandbox.received] == [(NOT_ANSWERED, False)]


async def test_a_hang_ends_when_it_is_told_to(client: Client, sandbox: Sandbox) -> None:
    """Nothing is answered and nothing accepted; the event drops the connection."""
    until = asyncio.Event()
    sandbox.plan(Hang(until))
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(_ending(client))
        await sandbox.wait_for(lambda arrivals: len(arrivals) == 1)
        assert not posting.done()
        assert sandbox.in_flight == 1
        until.set()
    assert posting.result() == "ServerDisconnectedError"
    assert not sandbox.accepted


async def test_stop_cuts_what_hangs(client: Client, sandbox: Sandbox) -> None:
    """A server that is stopped does not wait for requests that would never end."""
    sandbox.plan(Hang())
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(_ending(client))
        await sandbox.wait_for(lambda arrivals: len(arrivals) == 1)
        async with asyncio.timeout(CEILING_S):
            await sandbox.stop()
    assert posting.result() in ("ServerDisconnectedError", "ClientOSError")
    assert sandbox.in_flight == 0


async def test_a_client_that_leaves_is_no_longer_in_flight(client: Client, sandbox: Sandbox) -> None:
    """A request whose client was killed frees its place, so that a limit counts only living ones."""
    sandbox.plan(Hang())
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(_ending(client))
        await sandbox.wait_for(lambda arrivals: len(arrivals) == 1)
        posting.cancel()
    await client.post()
    assert sandbox.in_flight == 0


async def test_a_held_request_is_recorded_before_it_is_answered(client: Client, sandbox: Sandbox) -> None:
    """A test can look at the moment between "Tuner has it" and "the client knows"; neighbours pass meanwhile."""
    release = sandbox.hold("c1")
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(client.post(create_body(call_id="c1")))
        await sandbox.wait_for(lambda arrivals: bool(arrivals))
        assert list(sandbox.accepted) == ["c1"]
        assert (await client.post(create_body(call_id="c2"))).status == 200
        assert not posting.done()
        release.set()
    assert posting.result().status == 200
    assert sandbox.most_in_flight == 2


async def _ending(client: Client) -> str:
    """How a post ended: its status, or the name of the exception."""
    try:
        return str((await client.post()).status)
    except aiohttp.ClientError as exc:
        return type(exc).__name__


# --- settings -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fail", "ending"),
    [("503", "503"), ("400", "400"), ("reset", "ClientOSError"), ("garbage", "200")],
)
async def test_a_share_of_one_fails_always(client: Client, sandbox: Sandbox, fail: str, ending: str) -> None:
    """Each kind of `--fail` does what it says, and accepts nothing."""
    sandbox.faults.fail = {fail: 1.0}
    assert [await _ending(client) for _ in range(3)] == [ending] * 3
    assert not sandbox.accepted


def test_shares_are_kept_and_repeatable() -> None:
    """Of 10,000 requests each kind gets its share, lost answers theirs of the rest; the same seed draws the same."""
    faults = Faults(fail={"503": 0.2, "reset": 0.05, "timeout": 0.01}, lose_answers=0.1)
    drawn = [faults.draw(chance) for chance in [random.Random(7)] for _ in range(10_000)]
    again = [faults.draw(chance) for chance in [random.Random(7)] for _ in range(10_000)]
    shares = {
        kind.__name__: sum(isinstance(each, kind) for each in drawn) / 10_000 for kind in (FixedAnswer, Reset, Hang, LoseAnswer)
    }
    assert shares == pytest.approx({"FixedAnswer": 0.2, "Reset": 0.05, "Hang": 0.01, "LoseAnswer": 0.074}, abs=0.012)
    assert drawn == again


async def test_over_the_limit_is_429(client: Client, sandbox: Sandbox) -> None:
    """With `limit` requests open the next one is throttled, with the standing Retry-After; then there is room again."""
    sandbox.faults.limit = 1
    sandbox.faults.retry_after = 5
    release = sandbox.hold()
    async with asyncio.TaskGroup() as group:
        held = group.create_task(client.post())
        await sandbox.wait_for(lambda arrivals: bool(arrivals))
        throttled = await client.post()
        release.set()
    assert (throttled.status, throttled.headers["Retry-After"], held.result().status) == (429, "5", 200)
    assert (await client.post(create_body(call_id="c2"))).status == 200


async def test_over_the_rate_is_429(client: Client, sandbox: Sandbox) -> None:
    """One request in a thousand seconds passes, the next is throttled."""
    sandbox.faults.rate = 0.001
    assert [(await client.post()).status for _ in range(2)] == [200, 429]


def test_the_bucket_lets_the_rate_through() -> None:
    """At 10/s: one at once, then one each 0.1 s, and no more after a pause than a tenth of a second's worth."""
    bucket = Bucket()
    passed = [bucket.take(10.0, now) for now in (100.0, 100.05, 100.11, 100.15, 100.22, 200.0, 200.01)]
    assert passed == [True, False, True, False, True, True, False]


async def test_retry_after_goes_with_503_and_429_only(client: Client, sandbox: Sandbox) -> None:
    """The standing wish is left out where it has no meaning, and yields to a planned one."""
    sandbox.faults.retry_after = 5
    sandbox.plan(FixedAnswer(503), FixedAnswer(500), FixedAnswer(429, retry_after=1))
    assert [(await client.post()).headers.get("Retry-After") for _ in range(3)] == ["5", None, "1"]


async def test_latency_comes_between_deciding_and_answering(client: Client, sandbox: Sandbox) -> None:
    """With an hour's latency the call is accepted at once, and nothing is answered."""
    sandbox.faults.latency_s = 3600.0
    async with asyncio.TaskGroup() as group:
        posting = group.create_task(client.post())
        await sandbox.wait_for(lambda _: bool(sandbox.accepted))
        assert not posting.done()
        posting.cancel()


def test_jitter_varies_the_latency() -> None:
    """Latency plus or minus jitter, never below zero."""
    faults, chance = Faults(latency_s=0.1, jitter_s=0.05), random.Random(3)
    delays = [faults.delay_s(chance) for _ in range(1000)]
    assert min(delays) >= 0.05
    assert max(delays) <= 0.15
    assert max(delays) - min(delays) > 0.08
    assert min(Faults(jitter_s=1.0).delay_s(chance) for _ in range(100)) == 0.0


@pytest.mark.parametrize(
    "texts", [["99"], ["600"], ["slow:0.1"], ["503:2"], ["503:-1"], ["503:x"], ["503:nan"], ["503:0.6", "500:0.6"]]
)
def test_what_cannot_fail_is_said(texts: list[str]) -> None:
    """A mistake in --fail is refused with what to write."""
    with pytest.raises(ValueError, match=r"write|more than 1"):
        parse_fail(texts)


def test_fail_as_written() -> None:
    """Status or kind, then the share; without one: always."""
    assert parse_fail(["503:0.2", "reset:.05"]) == {"503": 0.2, "reset": 0.05}
    assert parse_fail(["garbage"]) == {"garbage": 1.0}


# --- from another process -------------------------------------------------------------------------------------------


async def test_settings_can_be_changed_from_outside(client: Client, sandbox: Sandbox) -> None:
    """The named settings change, the others stay, and no answer gives the key away."""
    sandbox.faults.retry_after = 9
    reply = await client.control({"fail": {"503": 1.0}, "require_key": "k2", "latency_s": 0.001})
    assert (reply.status, b"k2" in reply.raw) == (200, False)
    assert [(await client.post()).status, sandbox.faults.retry_after] == [503, 9]
    await client.control({"fail": {}})
    assert (await client.post()).status == 401
    assert (await client.post(headers={"X-API-Key": "k2"}, body=b"{}")).status == 422


async def test_plans_can_be_made_from_outside(client: Client, sandbox: Sandbox) -> None:
    """Every planned ending has a word; a plan can be for one call, and can be forgotten."""
    planned = [503, {"status": 429, "retry_after": 2}, {"redirect": "http://x.example"}, "garbage", "reset", "lose", "ordinary"]
    assert (await client.control({"next": planned})).json["planned"] == 7
    endings = [await _ending(client) for _ in range(7)]
    assert endings == ["503", "429", "307", "200", "ClientOSError", "ServerDisconnectedError", "409"]
    await client.control({"next": [500], "call_id": "call_12345"})
    assert (await client.post(create_body(call_id="other"))).status == 200
    assert (await client.control({"clear": True})).json["planned"] == 0
    assert (await client.post()).status == 409


async def test_what_is_held_from_outside_is_released_from_outside(client: Client, sandbox: Sandbox) -> None:
    """A test in another process can keep requests open and let them go."""
    await client.control({"next": ["hold", "hold"]})
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(client.post(create_body(call_id=call_id))) for call_id in ("a", "b")]
        await sandbox.wait_for(lambda arrivals: len(arrivals) == 2)
        assert (await client.get("/arrivals.json")).json["in_flight"] == 2
        await client.control({"release": True})
    assert [each.result().status for each in held] == [200, 200]


@pytest.mark.parametrize(
    "said",
    [
        {"fial": {}},
        {"fail": {"999": 0.5}},
        {"fail": {"503": 0.6, "500": 0.6}},
        {"lose_answers": 2},
        {"next": ["explode"]},
        {"next": [700]},
        {"next": [{"status": 503, "later": 1}]},
        [],
    ],
)
async def test_a_control_request_with_a_mistake_changes_nothing(client: Client, sandbox: Sandbox, said: object) -> None:
    """All or nothing, and the answer says what is wrong."""
    before = sandbox.faults.model_dump()
    reply = await client.control({"retry_after": 3, **said} if isinstance(said, dict) else said)
    assert (reply.status, bool(reply.json["problems"])) == (422, True)
    assert sandbox.faults.model_dump() == before
    assert (await client.post()).status == 200


async def test_a_page_of_another_origin_cannot_control_it(client: Client, sandbox: Sandbox) -> None:
    """A browser sends text/plain anywhere without asking; that is not listened to."""
    async with client.session.post(f"{sandbox.url}/_sandbox/plan", data=b'{"fail": {"503": 1.0}}') as answer:
        assert answer.status == 415
    assert not sandbox.faults.fail


async def test_connections_are_counted(sandbox: Sandbox) -> None:
    """Tests of keep-alive can tell that ten calls went over one connection."""
    async with aiohttp.ClientSession() as session:
        for number in range(10):
            data = orjson.dumps(create_body(call_id=str(number)))
            headers = {"Content-Type": "application/json", **KEYS[Form.CREATE_CALL]}
            async with session.post(sandbox.url + CALL_PATH, params=QUERY, data=data, headers=headers) as answer:
                assert answer.status == 200
    assert sandbox.connections == 1
