"""Delivery beside other instances on one ledger: when it sends nothing, and what it shares with them."""

import pytest

from tests.delivery.fleet_parts import Others
from tests.delivery.made import claimed, delivering_to, destination
from tests.delivery.server import serving
from tunerd.call import State
from tunerd.config import Delivery as Settings
from tunerd.delivery.key import Key
from tunerd.delivery.ports import MayNotSend
from tunerd.delivery.upload import Uploader, open_session
from tunerd.events import AttemptEnded, CallSent, PauseBegan
from tunerd.ledger import Filter
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
