"""docs/first-ten-minutes.md: a stranger types its commands one after the other, and the call arrives, first at a stand-in."""

from pathlib import Path

from tests.docs.fences import DOCS, fences
from tests.docs.service_host import KEY, service_host
from tunerd.sandbox.faults import Faults

PAGE = DOCS / "first-ten-minutes.md"


async def test_the_first_call_arrives(tmp_path: Path) -> None:
    """Every command prints what the page shows; the call arrives once by `run --once`, and again by `send` with the key from a file."""
    async with service_host(tmp_path, running=False, faults=Faults()) as host:
        for fence in fences(PAGE):
            if " file " in fence.info:
                file = host.place / fence.info.rpartition(" ")[2]
                file.parent.mkdir()
                file.write_text(fence.text)
        host.stand_in_at("http://127.0.0.1:8099")
        await host.play(PAGE, "3. Let tunerd propose the rules", 0)
        await host.play(PAGE, "3. Let tunerd propose the rules", 1)
        with (host.place / "config.yaml").open("a") as config_file:
            config_file.write("http: {listen: null, admin_listen: null}\n")  # other tests may use the default ports
        await host.play(PAGE, "4. See what becomes of the file", 0)
        await host.play(PAGE, "5. Send it to a stand-in", 0)
        assert set(await host.tuner.accepted()) == {"call-17"}
        config = host.place / "config.yaml"
        config.write_text(config.read_text().replace("tuner:\n", f"tuner:\n  base_url: {host.tuner.url}\n", 1))  # Tuner, here
        await host.tuner.plan({"require_key": KEY})
        (host.place / "key").write_text(KEY)
        await host.play(PAGE, "6. Send it to Tuner", 0)
        assert (await host.tuner.bodies())["call-17"]["call_type"] == "phone_call"
