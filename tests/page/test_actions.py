"""Login and actions of the status page, over a real socket: nothing changes without a session, its CSRF token, and a form of this
page.
"""

import asyncio
from pathlib import Path

import pytest

from tests.page.served import TOKEN, Served, serving
from tunerd.ledger import Filter
from tunerd.page.access import IDLE_S, SESSION_S, WRONG_TOKENS


async def states(served: Served) -> dict[str, str]:
    rows = await served.bench.ledger.calls(Filter(dismissed=None))
    return {row.call_id or row.path: "dismissed" if row.dismissed else row.state.value for row in rows}


async def test_without_a_token_file_there_are_no_actions() -> None:
    """The page shows no button, the login says what to set, and a form is refused."""
    async with serving() as served:
        await served.bench.fail("call-1")
        assert "<button>Retry" not in (await served.get("/"))[1]
        assert "http.admin_token_file" in (await served.get("/login"))[1]
        assert (await served.post("/login", token=""))[0] == 403
        assert (await served.post("/actions/retry", call_id="call-1"))[0] == 403
        assert await states(served) == {"call-1": "failed"}


async def test_retry_and_dismiss_of_one_call_and_of_a_reason(tmp_path: Path) -> None:
    """The page after it says how many calls were changed, and how."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.fail("a", "b", "c", "d")
        csrf = await served.log_in()
        assert await served.post("/actions/retry", csrf=csrf, call_id="a") == (303, "/done")
        assert "1 call: sent again as soon as possible" in (await served.get("/done"))[1]
        assert await served.post("/actions/dismiss", csrf=csrf, call_id="b") == (303, "/done")
        assert await states(served) == {"a": "due", "b": "dismissed", "c": "failed", "d": "failed"}
        assert await served.post("/actions/retry", csrf=csrf, reason="rejected") == (303, "/done")
        assert "2 calls: sent again" in (await served.get("/done"))[1]
        assert await states(served) == {"a": "due", "b": "dismissed", "c": "due", "d": "due"}


async def test_pause_and_resume(tmp_path: Path) -> None:
    """By the name of the destination; a name that does not exist changes nothing, and the page says which there are."""
    async with serving(token_file=tmp_path / "token") as served:
        csrf = await served.log_in()
        assert await served.post("/actions/pause", csrf=csrf, destination="tuner") == (303, "/done")
        assert (await served.bench.ledger.stored_pauses())["tuner"].pause is not None
        assert await served.post("/actions/resume", csrf=csrf, destination="tuner") == (303, "/done")
        assert (await served.bench.ledger.stored_pauses())["tuner"].pause is None
        await served.post("/actions/pause", csrf=csrf, destination="nowhere")
        assert "there is: tuner" in (await served.get("/done"))[1]


@pytest.mark.parametrize(
    "fields", [{}, {"reason": ""}, {"after_row": "1"}, {"path": "/x", "offset": "-1"}, {"call_id": "a", "after_row": "x"}]
)
@pytest.mark.parametrize("verb", ["retry", "dismiss", "forget", "pause"])
async def test_a_form_that_names_nothing_changes_nothing(tmp_path: Path, verb: str, fields: dict[str, str]) -> None:
    """Without a call or a reason, an order would be about every call; the page never gives such an order."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.fail("a", "b")
        csrf = await served.log_in()
        await served.post(f"/actions/{verb}", csrf=csrf, **fields)
        assert "Nothing was changed" in (await served.get("/done"))[1]
        assert await states(served) == {"a": "failed", "b": "failed"}


async def test_a_form_needs_the_csrf_token_of_its_session(tmp_path: Path) -> None:
    """A missing one, a wrong one, and one of another session."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.fail("a")
        first = await served.log_in()
        second = await served.log_in()
        assert first != second
        for wrong in ({}, {"csrf": ""}, {"csrf": "x"}, {"csrf": first}):
            assert (await served.post("/actions/retry", **wrong, call_id="a"))[0] == 403
            assert (await served.post("/logout", **wrong))[0] == 403
        assert await states(served) == {"a": "failed"}


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://attacker.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, {"Sec-Fetch-Site": "cross-site"},
     {"Sec-Fetch-Site": "same-site"}],
)  # fmt: skip
async def test_a_form_of_another_site_is_refused(tmp_path: Path, headers: dict[str, str]) -> None:
    """Even with a session and its token; the login, too."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.fail("a")
        csrf = await served.log_in()
        assert (await served.post("/actions/retry", headers, csrf=csrf, call_id="a"))[0] == 403
        assert (await served.post("/login", headers, token=TOKEN))[0] == 403
        assert await states(served) == {"a": "failed"}


async def test_the_cookie_is_for_this_page_alone(tmp_path: Path) -> None:
    """No script reads it, no other site's request brings it, and a second daemon on this host has another one."""
    async with serving(token_file=tmp_path / "token") as served:
        async with served.session.post(f"{served.url}/login", data={"token": TOKEN}, allow_redirects=False) as answer:
            cookie = answer.headers["Set-Cookie"]
        assert cookie.startswith(f"tunerd_session_{served.address[1]}=")
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie


async def test_logins_are_limited(tmp_path: Path) -> None:
    """Five wrong tokens, and this address waits a minute, also with the right one; who is logged in from there stays logged in."""
    async with serving(token_file=tmp_path / "token") as served:
        csrf = await served.log_in()
        for _ in range(WRONG_TOKENS):
            assert (await served.post("/login", token="guess"))[0] == 403
        status, text = await served.post("/login", token=TOKEN)
        assert status == 429
        assert "Try again in 60 s" in text
        assert await served.csrf() == csrf != ""
        served.monotonic = 61.0
        await served.log_in()


async def test_a_session_ends(tmp_path: Path) -> None:
    """When it is not used for an hour, eight hours after the login, by a logout, and by another token in the file."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.log_in()
        served.monotonic += IDLE_S + 1
        assert await served.csrf() == ""
        await served.log_in()
        for _ in range(int(SESSION_S // 1800)):
            served.monotonic += 1800
            assert await served.csrf() != ""
        served.monotonic += 1800
        assert await served.csrf() == ""
        assert await served.post("/logout", csrf=await served.log_in()) == (303, "/")
        assert await served.csrf() == ""
        await served.log_in()
        (tmp_path / "token").write_text("another-token-of-this-test")
        assert await served.csrf() == ""
        await served.log_in("another-token-of-this-test")


@pytest.mark.parametrize("content", ["", "k7-short\n", "two lines of it\nare no token\n", "x" * 2000, "token-with-ä-umlaut"])
async def test_a_file_without_a_usable_token(tmp_path: Path, content: str) -> None:
    """Nobody can log in, not even with what the file holds, and the page says what is wrong without quoting it."""
    async with serving(token_file=tmp_path / "token", token=content) as served:
        status, text = await served.post("/login", token=content)
        assert status == 503
        assert "Nobody can log in" in text
        assert not content.strip() or content.strip() not in text


async def test_a_long_action_continues(tmp_path: Path) -> None:
    """Rows of several pages of an order are all handled, in one action if they are quick."""
    async with serving(token_file=tmp_path / "token") as served:
        await served.bench.fail(*(f"call-{number}" for number in range(230)))
        csrf = await served.log_in()
        await served.post("/actions/retry", csrf=csrf, reason="rejected")
        assert set((await states(served)).values()) == {"due"}
        assert "230 calls: sent again" in (await served.get("/done"))[1]


async def test_tries_that_come_together_are_all_counted(tmp_path: Path) -> None:
    """Forty at once are five tries, not forty."""
    async with serving(token_file=tmp_path / "token") as served, asyncio.TaskGroup() as group:
        tries = [group.create_task(served.post("/login", token=f"guess-{number}")) for number in range(40)]
        answers = [(await one)[0] for one in tries]
    assert (answers.count(403), answers.count(429)) == (WRONG_TOKENS, 40 - WRONG_TOKENS)
