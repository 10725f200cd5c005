"""The sandbox's HTTP server: reads a request, decides its end, records it, and only then answers.

aiohttp's bare `web.Server` without router and application: it is also the server that benchmarks run against.
"""

import asyncio
import random
import ssl
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from aiohttp import web

from tunerd.clock import SystemClock
from tunerd.sandbox import page
from tunerd.sandbox.accounts import AccountKey, Accounts, CallRequest, Offer, Response, planned_response, throttled, unread_answer
from tunerd.sandbox.arrivals import Arrival, Journal
from tunerd.sandbox.body_check import Judged, judge
from tunerd.sandbox.faults import Bucket, DeclineTarget, Faults, Hang, HoldAnswer, LoseAnswer, LoseTarget, Planned, Plans, Reset
from tunerd.sandbox.http_io import Listener, asked_by, carry_out, html_response, json_response, read_body
from tunerd.sandbox.plan_request import read_plan_request
from tunerd.sandbox.recording_store import RecordingStore, UploadArrival
from tunerd.sandbox.upload_endpoint import RECORDINGS_PATH, UPLOAD_PATH, UploadEndpoint

CALL_PATH: Final = "/api/v1/public/call"
CONTROL_PATH: Final = "/_sandbox/plan"

_UNREAD: Final = Judged(problems=())


class Sandbox:
    """A stand-in for Tuner on a real socket; `async with Sandbox() as sandbox:` starts one on a free port.

    `faults` may be changed at any time; `plan` and `storage.plan` say how the next requests end. With `check=False` a request
    with a good key is taken unread and only counted. `keep` bounds `received` and the uploads (the oldest are forgotten).
    Uploaded audio is kept in `recordings` (None: a directory that close() removes). State outlives stop() and start().
    """

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        check: bool = True,
        show: bool = False,
        journal: Path | None = None,
        seed: int | None = None,
        keep: int | None = None,
        recordings: Path | None = None,
    ) -> None:
        self.faults = faults or Faults()
        self.received: deque[Arrival] = deque(maxlen=keep)
        """Every POST to the call endpoint, oldest first; empty without checks."""
        self.counts: Counter[str] = Counter()
        """How many requests ended so: Arrival.note -> number; kept without checks too."""
        self.total = 0
        """All POSTs to the call endpoint, kept or not."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.connections = 0
        """TCP connections that were opened, ever."""
        self.url = ""
        """`http://127.0.0.1:PORT`, once started."""
        self.on_arrival: Callable[[Arrival], None] | None = None
        """Called with each Arrival as soon as it is recorded."""
        self._check = check
        self._show = show
        self._journal = Journal(journal) if journal is not None else None
        self._random = random.Random(seed)  # noqa: S311 - chance for tests, nothing secret
        self._plans = Plans()
        self._release = asyncio.Event()
        self._bucket = Bucket()
        self._accounts = Accounts()
        self._attempts: Counter[AccountKey] = Counter()
        self._arrived = asyncio.Event()
        self._never = asyncio.Event()
        self._clock = SystemClock()
        self.storage = RecordingStore(recordings, keep)
        """The presigned uploads: what came, what is planned for the next."""
        self._endpoint = UploadEndpoint(self.storage, self._clock, self._next_upload, self._uploaded)
        self._runner: web.ServerRunner | None = None

    # --- for tests -----------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> dict[str, list[Arrival]]:
        """Call id -> the arrivals that were accepted; more than one: send-calls took a repeat (or two agents share the id)."""
        found: dict[str, list[Arrival]] = {}
        for arrival in self.received:
            if arrival.accepted and arrival.call_id is not None:
                found.setdefault(arrival.call_id, []).append(arrival)
        return found

    def plan(self, *answers: Planned, call_id: str | None = None) -> None:
        """The next requests (of this call) end so, in this order; a call's own plan comes first, and needs check=True."""
        self._plans.add(answers, call_id)

    def hold(self, call_id: str | None = None) -> asyncio.Event:
        """The next request (of this call) is dealt with and recorded, but answered only when the event given is set."""
        release = asyncio.Event()
        self.plan(HoldAnswer(release), call_id=call_id)
        return release

    async def wait_for(self, done: Callable[[Sequence[Arrival]], bool], ceiling_s: float = 20.0) -> None:
        """Until `done(received)`, asked again at each arrival, and when an upload begins and ends; TimeoutError after
        `ceiling_s`."""
        async with asyncio.timeout(ceiling_s):
            while not done(self.received):
                await self._arrived.wait()

    # --- starting and stopping ------------------------------------------------------------------------------------

    async def start(self, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None) -> str:
        """Listen, and give the URL; port 0 takes a free one. OSError where the address is taken."""
        # What is held or hangs is cut off at stop: this server is allowed to die.
        runner = web.ServerRunner(Listener(self._handle, self._opened), shutdown_timeout=0.05)
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=tls, backlog=1024).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.url = f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{runner.addresses[0][1]}"
        return self.url

    async def stop(self) -> None:
        """Cut every connection and stop listening. What was received stays; start() continues with it."""
        if self._runner is not None:
            runner, self._runner = self._runner, None
            await runner.cleanup()

    def close(self) -> None:
        """Close the journal and remove a temporary directory. After this nothing may arrive any more."""
        self.storage.close()
        if self._journal is not None:
            self._journal.close()
            self._journal = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self.stop()
        self.close()

    def _opened(self) -> None:
        self.connections += 1

    # --- the call endpoint ----------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == UPLOAD_PATH and request.method == "POST":
            return await self._endpoint.upload(request)
        if request.path != CALL_PATH:
            return await self._own_endpoints(request)
        if request.method != "POST":
            return json_response(405, {"success": False, "error": "only POST"}, {"Allow": "POST"})
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._call(request)
        finally:
            self.in_flight -= 1

    async def _call(self, request: web.BaseRequest) -> web.StreamResponse:
        body, unreadable = await read_body(request, self.faults.max_body_bytes)
        asked = asked_by(request)
        judged = judge(asked.form, body) if self._check and unreadable is None else _UNREAD
        planned = self._plans.take(judged.call_id) or self.faults.draw(self._random)

        def offer(call: AccountKey, extension: str) -> Mapping[str, object] | None:
            if isinstance(planned, DeclineTarget):
                return None
            url = f"{request.scheme}://{request.host}{UPLOAD_PATH}"
            return self.storage.offer(call, extension, url, self.faults, self._clock.now())

        end = (
            planned_response(planned, self.faults) or self._throttled() or unreadable or self._ordinary_end(asked, judged, offer)
        )
        if isinstance(planned, LoseTarget) and end.upload_key is not None:
            planned = LoseAnswer()
        note = f"{end.note}, answer lost" if isinstance(planned, LoseAnswer) else end.note
        self.total += 1
        self.counts[note] += 1
        if self._check:
            self._record(asked, body, judged, end, note, compressed="Content-Encoding" in request.headers)
        self._wake()
        if not isinstance(planned, Reset | Hang) and (delay_s := self.faults.delay_s(self._random)):
            # The pause ends early too: a client that leaves, and stop(), cancel the handler.
            await self._clock.wait(self._never, delay_s)
        return await carry_out(request, planned, end)

    def _wake(self) -> None:
        self._arrived.set()
        self._arrived = asyncio.Event()

    def _next_upload(self, call_id: str | None) -> Planned:
        self._wake()
        return self.storage.plans.take(call_id) or self.faults.draw_upload(self._random)

    def _uploaded(self, upload: UploadArrival) -> None:
        if self._journal is not None:
            self._journal.write(upload.facts())
        self._wake()
        if self.storage.on_upload is not None:
            self.storage.on_upload(upload)

    def _throttled(self) -> Response | None:
        faults = self.faults
        over_limit = faults.limit is not None and self.in_flight > faults.limit
        if over_limit or (faults.rate is not None and not self._bucket.take(faults.rate, time.monotonic())):
            return throttled(faults)
        return None

    def _ordinary_end(self, asked: CallRequest, judged: Judged, offer: Offer) -> Response:
        if self._check:
            return self._accounts.answer(asked, judged, self.faults, offer)
        return unread_answer(asked, self.faults)

    def _record(self, asked: CallRequest, body: bytes, judged: Judged, end: Response, note: str, *, compressed: bool) -> None:
        call = (asked.workspace, asked.agent, judged.call_id or "")
        self._attempts[call] += 1
        arrival = Arrival(
            number=self.total,
            at=self._clock.now(),
            form=asked.form,
            workspace=asked.workspace,
            agent=asked.agent,
            call_id=judged.call_id,
            body=body,
            compressed=compressed,
            status=end.status,
            accepted=end.accepted,
            attempt=1 if judged.call_id is None else self._attempts[call],
            note=note,
            rows=judged.rows,
            recording_url=judged.recording_url,
            problems=end.problems,
            upload_key=end.upload_key,
        )
        if self._journal is not None:
            self._journal.write(arrival.facts())
        self.received.append(arrival)
        if self.on_arrival is not None:
            self.on_arrival(arrival)

    # --- the sandbox's own endpoints ------------------------------------------------------------------------------

    async def _own_endpoints(self, request: web.BaseRequest) -> web.StreamResponse:
        match request.method, request.path:
            case "GET", "/":
                return html_response(page.render(self.received, self.counts, self.storage.total, show=self._show))
            case "GET", "/arrivals.json":
                return self._arrivals(request.query.get("since", "0"))
            case "GET", "/recordings":
                return html_response(page.render_uploads(self.storage.received, self.storage.counts))
            case "GET", "/uploads.json":
                return json_response(200, self.storage.facts())
            case "GET" | "HEAD", path if path.startswith(RECORDINGS_PATH):
                return self._endpoint.serve(path.removeprefix(RECORDINGS_PATH))
            case "GET", "/healthz":
                return json_response(200, {"ok": True})
            case "POST", path if path == CONTROL_PATH:
                return await self._control(request)
            case _:
                return json_response(404, {"success": False, "error": "no such path"})

    def _arrivals(self, since: str) -> web.Response:
        if not since.isdecimal():
            return json_response(400, {"success": False, "error": "since: write the number of an arrival"})
        news = takewhile(lambda arrival: arrival.number > int(since), reversed(self.received))
        found = [arrival.facts(show=self._show) for arrival in news][::-1]
        return json_response(200, {"total": self.total, "in_flight": self.in_flight, "counts": self.counts, "arrivals": found})

    async def _control(self, request: web.BaseRequest) -> web.Response:
        # A page in a browser cannot send this type to another origin without asking first.
        if request.content_type != "application/json":
            return json_response(415, {"problems": ["Content-Type must be application/json"]})
        body, unreadable = await read_body(request, self.faults.max_body_bytes)
        said = read_plan_request(body) if unreadable is None else ["the body cannot be read"]
        if isinstance(said, list):
            return json_response(422, {"problems": said})
        self.faults = said.changed(self.faults)
        if said.clear:
            self._plans.clear()
            self.storage.plans.clear()
        if said.release:
            self._release.set()
            self._release = asyncio.Event()
        self.plan(*said.planned(self._release), call_id=said.call_id)
        self.storage.plan(*said.planned_uploads(self._release), call_id=said.call_id)
        waiting = len(self._plans) + len(self.storage.plans)
        return json_response(200, self.faults.model_dump(exclude={"require_key"}) | {"planned": waiting})
