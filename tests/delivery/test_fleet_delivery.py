"""Delivery beside other instances on one ledger: when it sends nothing, and what it shares with them."""

from pathlib import Path

import pytest

from tests.delivery.fleet_parts import Others
from tests.delivery.made import SENT, claimed, delivering, delivering_to, destination, scripted
from tests.delivery.server import Reply, Request, serving
from tunerd.call import State
from tunerd.config import Delivery as Settings
from tunerd.delivery.key import Key
from tunerd.delivery.ports import MayNotSend
from tunerd.delivery.upload import Uploader, open_session
from tunerd.events import AttemptEnded, CallSent, PauseBegan
from tunerd.ledger import Filter, StoredPauses
from tunerd.outcome import PauseReason
from tunerd.testing import FakeClock


async def test_nothing_is_sent_once_others_may_have_given_this_instance_up() -> None:
    """It is asked when the connection is there, right before the first byte: the server sees a connection and no request."""
    others = Others()
    others.before_first_byte = lambda: setattr(others, "is_given_up", True)
    async with serving() as server, open_session(asks=True) as session:
        upload = Uploader(session, destination(server.url), Key(destination(server.url)), Settings(), FakeClock(), {}, others)
        with pytest.raises(MayNotSend):
            await upload(claimed())
        assert server.connections == 1
        assert server.requests == []


async def test_a_call_that_was_not_begun_goes_back_as_it_was() -> None:
    """It counts as no attempt and pauses nothing; when a heartbeat has arrived, it is sent."""
    others = Others()
    others.before_first_byte = lambda: setattr(others, "is_given_up", len(others.asked_for) == 1)
    async with serving() as server, delivering_to(server.url, fleet=others) as bench:
        await bench.admit("call-1")
        await bench.clock.advance(0.5)
        assert [one.state for one in await bench.ledger.calls(Filter())] == [State.DUE]
        assert server.requests == []
        others.is_given_up = False
        await bench.clock.advance(1.0)
        (sent,) = await bench.told.until(CallSent)
    assert sent.attempts == 1
    assert len(bench.told.seen(AttemptEnded)) == 1
    assert bench.told.seen(PauseBegan) == []


async def test_a_claim_from_before_a_gap_is_not_sent_after_it() -> None:
    """The heartbeat arrives again, so that new claims may be sent; but others may have the old one by now."""
    others = Others()
    others.before_first_byte = lambda: setattr(others, "lease", 1)
    async with serving() as server, open_session(asks=True) as session:
        upload = Uploader(session, destination(server.url), Key(destination(server.url)), Settings(), FakeClock(), {}, others)
        with pytest.raises(MayNotSend):
            await upload(claimed(lease=0))
        assert server.requests == []
        await upload(claimed(lease=1))
        assert len(server.requests) == 1


async def test_nothing_is_claimed_while_this_instance_may_not_send() -> None:
    """A call that others can send stays due for them."""
    others = Others()
    others.is_given_up = True
    async with serving() as server, delivering_to(server.url, fleet=others) as bench:
        await bench.admit("call-1")
        await bench.clock.advance(30)
        assert [one.state for one in await bench.ledger.calls(Filter())] == [State.DUE]
        assert server.requests == []
        others.is_given_up = False
        await bench.clock.advance(1)
        await bench.told.until(CallSent)


async def test_a_superseded_instance_ends_though_calls_are_due() -> None:
    """With `on_stop: empty`, too: the start that took its name sends them."""
    others = Others()
    others.is_superseded = True
    async with serving() as server, delivering_to(server.url, fleet=others, on_stop="empty") as bench:
        await bench.admit("call-1")
        await bench.stop()
        assert server.requests == []


NO_KEY = Reply(401, b'{"detail": "invalid key"}')


async def test_another_instance_may_have_the_probe() -> None:
    """A paused destination is tried by one instance: here the call goes back, and is asked about again when that one is over."""
    others = Others()
    async with serving(NO_KEY, Reply()) as server, delivering_to(server.url, fleet=others) as bench:
        await bench.admit("call-1")
        await bench.told.until(PauseBegan)
        others.probe_free_in_s = 12.0
        await bench.clock.advance(31)
        assert others.probes == [("tuner", "")]
        assert len(server.requests) == 1
        assert [one.state for one in await bench.ledger.calls(Filter())] == [State.DUE]
        others.probe_free_in_s = 0.0
        await bench.clock.advance(12)
        await bench.told.until(CallSent)
    assert others.probes == [("tuner", "")] * 2


async def test_a_pause_of_another_instance_holds_here() -> None:
    """And ends here, when it ended there; this instance stores nothing again."""
    others = Others()
    async with serving() as server, delivering_to(server.url, fleet=others) as bench:
        await bench.clock.advance(1)
        others.follow({"tuner": StoredPauses(pause=PauseReason.OPERATOR, paused_since=bench.clock.now(), detail="by hand")})
        (began,) = bench.told.seen(PauseBegan)
        assert began.reason is PauseReason.OPERATOR
        await bench.admit("call-1")
        await bench.clock.advance(60)
        assert server.requests == []
        others.follow({"tuner": StoredPauses()})
        await bench.told.until(CallSent)
    assert (await bench.ledger.stored_pauses())["tuner"] == StoredPauses()


async def test_a_retry_after_of_another_instance_holds_here() -> None:
    """Until the server's time, to the second."""
    others = Others()
    async with serving() as server, delivering_to(server.url, fleet=others) as bench:
        await bench.clock.advance(1)
        others.follow({"tuner": StoredPauses(closed_until=bench.clock.now() + 120)})
        await bench.admit("call-1")
        await bench.clock.advance(119)
        assert server.requests == []
        await bench.clock.advance(2)
        await bench.told.until(CallSent)


async def test_a_paused_agent_is_probed_by_one_instance() -> None:
    """The agent's probe is asked for by its name; the calls of other agents do not ask."""
    others = Others()
    refused = Reply(403, b"{}")

    def behave(request: Request) -> Reply:
        return refused if request.query["agent_remote_identifier"] == ["bad"] and len(server.requests) == 1 else Reply()

    async with serving(behave=behave) as server, delivering_to(server.url, fleet=others) as bench:
        await bench.admit("call-1", agent="bad")
        (began,) = await bench.told.until(PauseBegan)
        assert began.agent == "bad"
        await bench.admit("call-2", agent="good")
        await bench.told.until(CallSent)
        assert others.probes == []
        await bench.clock.advance(31)
        await bench.told.until(CallSent, 2)
    assert others.probes == [("tuner", "bad")]


async def test_a_key_that_only_this_instance_lacks_pauses_no_other(tmp_path: Path) -> None:
    """Its pause is not stored; a pause of the others that holds when the key comes, holds here, too."""
    others, key = Others(), tmp_path / "key"
    there = destination("https://tuner.example", api_key=None, api_key_file=str(key))
    async with delivering(scripted(lambda claimed: SENT), destinations=[there], fleet=others) as bench:
        await bench.told.until(PauseBegan)
        await bench.clock.advance(5)
        assert (await bench.ledger.stored_pauses()).get("tuner", StoredPauses()).pause is None
        others.follow({"tuner": StoredPauses(pause=PauseReason.OPERATOR, paused_since=bench.clock.now(), detail="by hand")})
        await bench.admit("call-1")
        key.write_text("bb7f64d7-e57c")
        await bench.clock.advance(10)
        assert (await bench.told.until(PauseBegan, 2))[-1].reason is PauseReason.OPERATOR
        assert bench.told.seen(CallSent) == []
        others.follow({})
        await bench.told.until(CallSent)
