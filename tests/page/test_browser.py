"""The status page in a real Chromium: it is drawn under its strict policy, refreshes itself, fits a phone, and its buttons work.

`make screenshots` writes the pictures of every state; docs/images/ has three of them.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.page.served import TOKEN, Served, broken, busy, empty, serving
from tests.real_parts import needs_chromium
from tunerd.statuses import DestinationStatus

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

SCENES = {"empty": empty, "busy": busy, "broken": broken}
SIZES = {"desktop": (1200, 800), "phone": (390, 780)}


@asynccontextmanager
async def browser() -> AsyncIterator[Any]:
    from playwright.async_api import async_playwright  # only where the tests of this file run

    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        try:
            yield chromium
        finally:
            await chromium.close()


@asynccontextmanager
async def window(
    chromium: Any, served: Served, *, size: str = "desktop", scheme: str = "light"
) -> AsyncIterator[tuple[Any, list[str]]]:
    """A window, and everything that the browser complains of in it: errors of scripts, violations of the policy, failed requests."""
    width, height = SIZES[size]
    context = await chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if not request.url.startswith(served.url) else None)
    await page.goto(served.url)
    try:
        yield page, complaints
    finally:
        await context.close()


async def made(scene: str) -> Any:
    bench = SCENES[scene]()
    return bench if scene == "empty" else await bench


@pytest.mark.parametrize("scene", SCENES)
async def test_each_state_in_light_and_dark_on_desktop_and_phone(scene: str) -> None:
    """Nothing is wider than the window, the colours follow the system, the picture is drawn, and the browser complains of nothing."""
    backgrounds = set()
    async with serving(await made(scene)) as served, browser() as chromium:
        for size, (width, _) in SIZES.items():
            for scheme in ("light", "dark"):
                async with window(chromium, served, size=size, scheme=scheme) as (page, complaints):
                    assert await page.evaluate("document.documentElement.scrollWidth") <= width
                    backgrounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
                    assert await page.locator("svg").evaluate("svg => svg.getBoundingClientRect().height") > 50
                    assert (await page.locator("rect").count() > 50) is (scene != "empty")
                    if directory := os.environ.get("TUNERD_SCREENSHOTS"):
                        await page.screenshot(path=Path(directory) / f"{scene}-{size}-{scheme}.png")
                    assert complaints == []
    assert len(backgrounds) == 2


async def test_it_refreshes_itself_and_says_when_nobody_answers() -> None:
    """A new state appears without a reload; while a person types it is left alone; a daemon that is gone is not taken for a calm one."""
    async with browser() as chromium, serving(await made("busy")) as served, window(chromium, served) as (page, complaints):
        assert await page.get_by_text("Nothing needs attention.").count() == 1
        await page.fill("input[name=id]", "call-4")
        await page.evaluate("refresh()")
        served.bench.destinations[:] = [DestinationStatus(name="tuner")]
        await served.bench.fail("call-late")
        await page.evaluate("refresh()")
        await page.get_by_text("One thing needs attention").wait_for()
        assert await page.input_value("input[name=id]") == "call-4"
        assert complaints == []
        await served.gone()
        await page.evaluate("refresh()")
        await page.get_by_text("tunerd has not answered since").wait_for()


async def test_log_in_retry_and_log_out(tmp_path: Path) -> None:
    """The buttons are there after the login alone; a dismissal of many asks first."""
    async with (
        serving(await made("broken"), tmp_path / "token") as served, browser() as chromium,
        window(chromium, served) as (page, complaints),
    ):  # fmt: skip
        assert await page.get_by_role("button", name="Pause").count() == 0
        await page.click("text=Log in")
        await page.fill("input[name=token]", TOKEN)
        await page.click("main button")
        await page.get_by_role("button", name="Log out").wait_for()
        await page.click("summary:has-text('Dismiss all 3')")
        await page.evaluate("refresh()")
        await page.click("details[open] button:has-text('Dismiss all 3')")
        await page.get_by_text("3 calls: dismissed").wait_for()
        await page.click("text=Back")
        await page.click("text=call-4650")
        await page.click("main button:has-text('Retry')")
        await page.get_by_text("1 call: sent again as soon as possible").wait_for()
        await page.click("text=tunerd >> nth=0")
        await page.click("button:has-text('Pause') >> nth=0")
        await page.get_by_text("Nothing is sent to tuner until it is resumed.").wait_for()
        await page.click("text=Log out")
        await page.get_by_role("link", name="Log in").wait_for()
        assert complaints == []
