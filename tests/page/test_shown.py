"""What the page shows in each state of a daemon, and that a busy ledger does not make it slow."""

from pathlib import Path

from tests.admin.benches import Bench, refused
from tests.ops.parts import NOW, destination, failed, sent
from tests.page.served import broken, busy, empty, serving
from tunerd.admin.answer_types import LastHourRow
from tunerd.admin.api import StatusOrder
from tunerd.ops.last_hour import MINUTES, LastHour
from tunerd.outcome import PauseReason
from tunerd.page.hour_picture import hour_picture
from tunerd.page.markup import tag
from tunerd.page.overview import attention


async def test_a_daemon_that_was_just_started() -> None:
    """Zeros, and no invented trouble."""
    async with serving(empty()) as served:
        _, text = await served.get("/")
        assert "Nothing needs attention." in text
        assert "0 arrived" in text


async def test_a_busy_daemon() -> None:
    """What is on the way, the rates, the oldest open call first, and its strategies on its own page."""
    async with serving(await busy()) as served:
        _, text = await served.get("/")
        assert "Nothing needs attention. 7 calls on the way." in text
        assert "841 arrived" in text
        assert text.index("call-waiting") < text.index("call-41")
        _, text = await served.get("/call?id=call-waiting")
        assert "manifest egress, key &#x27;room-81&#x27;: no answer yet" in text


async def test_a_daemon_in_trouble() -> None:
    """Each trouble is named at the top, and further down with its reason and what to do."""
    async with serving(await broken()) as served:
        _, text = await served.get("/")
        for words in (
            "7 things need attention", "Tuner answered 401: the key is not valid", "next probe in 17 s", "agent night-bot paused (auth)",
            "no uploads for 45 s", "this process cannot read the directory", "/var/spool/egress/EG_77.json",
            "unknown key `inclde`", "tunerd remap --state due", "3 calls", "tunerd retry call-4719", "correct the file; it is then read",
        ):  # fmt: skip
            assert words in text, words


async def test_attention_for_each_pause() -> None:
    """Every reason has words of what to do."""
    for reason in PauseReason:
        status = await Bench(destinations=[destination(pause=reason)]).ask(StatusOrder())
        (need,) = attention(status)
        assert f"({reason.value}): " in need


async def test_more_failed_calls_than_are_grouped() -> None:
    """The page says that it groups the newest, and claims no exact counts."""
    async with serving() as served:
        await served.bench.fail(*(f"call-{number}" for number in range(201)))
        _, text = await served.get("/")
        assert "Grouped are the newest 200 of 201." in text
        assert "200 or more" in text
        _, text = await served.get("/failed?reason=rejected")
        assert "older ones" in text
        assert text.count("/call?id=") == 50


async def test_paths_that_are_not_utf_8(tmp_path: Path) -> None:
    """They are shown as escapes, and have no button, because a form cannot name them."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.refuse(refused("/calls/b\udcffd.json"))
        await served.log_in()
        status, text = await served.get("/failed?reason=unreadable")
        assert status == 200
        assert "/calls/b\\udcffd.json" in text
        assert 'action="/actions' not in text


def test_the_last_hour_moves_on() -> None:
    """Counts move to older minutes, and are gone after sixty; a clock that is set back makes them worthless."""
    at = NOW
    hour = LastHour(lambda: at)
    for event in (sent(), sent(), failed()):
        hour(event)
    assert [sum(series) for series in hour.series()] == [0, 2, 1]
    at = NOW + 59 * 60
    assert hour.series()[1][0] == 2
    assert hour.began_at() == NOW
    at = NOW + 60 * 60
    assert sum(hour.series()[1]) == 0
    hour(sent())
    at = NOW
    assert sum(hour.series()[1]) == 0
    at = NOW + 10 * 365 * 86_400
    assert [len(series) for series in hour.series()] == [MINUTES] * 3


def test_the_picture_fits_its_frame() -> None:
    """The tallest column fills its half, whatever the numbers are, and nothing is drawn for nothing."""
    row = LastHourRow(began_at=NOW, admitted=[0] * 59 + [1_000_000], sent=[0] * 60, failed=[0] * 60)
    text = hour_picture(row)
    assert text.count("<rect") == 1
    assert 'height="46.0"' in text
    assert "<rect" not in hour_picture(LastHourRow(began_at=NOW, admitted=[0] * 60, sent=[0] * 60, failed=[0] * 60))


def test_what_is_not_html_is_escaped() -> None:
    """In text and in attributes, with invisible characters shown."""
    assert tag("a", "<b>\x1b", href='x"&', hidden=True, title=None) == '<a href="x&quot;&amp;" hidden>&lt;b&gt;\\x1b</a>'
