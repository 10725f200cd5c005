"""The sandbox's pages: plain HTML without scripts or foreign assets, everything escaped. Pure: arrivals in, text out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from tunerd.sandbox.arrivals import NOT_ANSWERED, Arrival, in_short
from tunerd.sandbox.recording_store import UploadArrival

SHOWN: Final = 200

_STYLE: Final = """\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8885; padding: .35rem .6rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: #18794e; } .bad { color: #cd2b31; } small, pre { color: GrayText; } pre { white-space: pre-wrap; }
audio { display: block; width: 100%; min-width: 12rem; }
"""


def render(arrivals: Sequence[Arrival], counts: Mapping[str, int], uploads: int, *, show: bool) -> str:
    """`arrivals` oldest first; the page has the newest SHOWN first. With `show` also bodies and whole URLs."""
    rows = "".join(_row(arrival, show=show) for arrival in list(arrivals)[-SHOWN:][::-1])
    head = "<tr><th>Time (UTC)<th>Call id<th>Agent<th>Form<th>Rows<th>Recording<th>Answer</tr>"
    link = f'<p><a href="/recordings">Uploaded recordings: {uploads}</a></p>'
    return _page(f"<p>{_counted(counts)}</p>{link}", head, rows, refresh=True)


def render_uploads(uploads: Sequence[UploadArrival], counts: Mapping[str, int]) -> str:
    """The newest SHOWN uploads, to be played. This page does not load itself anew, which would stop what is playing."""
    rows = "".join(_upload_row(upload) for upload in list(uploads)[-SHOWN:][::-1])
    head = "<tr><th>Time (UTC)<th>Call id<th>Recording<th>Bytes<th>SHA-256<th>Answer</tr>"
    return _page(f'<p>{_counted(counts)}</p><p><a href="/">Calls</a></p>', head, rows, refresh=False)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{escape(note)}: {count}" for note, count in sorted(counts.items())) or "nothing yet"


def _page(above: str, head: str, rows: str, *, refresh: bool) -> str:
    again = '<meta http-equiv="refresh" content="2">' if refresh else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
{again}<title>tunerd sandbox</title><style>
{_STYLE}</style></head><body>
<h1>tunerd sandbox</h1>
<p>A stand-in for Tuner. Nothing that arrives here leaves this machine.</p>
{above}<table><thead>{head}</thead><tbody>{rows}</tbody></table></body></html>
"""


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def _upload_row(upload: UploadArrival) -> str:
    call_id = "-" if upload.call is None else upload.call[2]
    player = f'<audio controls preload="none" src="/recordings/{upload.number}"></audio>' if upload.path is not None else ""
    return (
        f"<tr><td class=n>{_time(upload.at)}<td>{escape(call_id)}<td>{player}{escape(upload.key or '-')}"
        f"<td class=n>{upload.size}<td>{upload.sha256}"
        f'<td class="{"ok" if upload.path is not None else "bad"}">{upload.status or ""} {escape(upload.note)}</tr>'
    )


def _row(arrival: Arrival, *, show: bool) -> str:
    at = _time(arrival.at)
    url = arrival.recording_url if show else in_short(arrival.recording_url)
    answer = f"{arrival.status or ''} {arrival.note}".strip()
    problems = "".join(f"<br><small>{escape(each.field)}: {escape(each.problem)}</small>" for each in arrival.problems)
    attempt = f" <small>attempt {arrival.attempt}</small>" if arrival.attempt > 1 else ""
    text = escape(arrival.body.decode("utf-8", "replace"))
    body = f"<details><summary>body</summary><pre>{text}</pre></details>" if show else ""
    good = arrival.status != NOT_ANSWERED and arrival.status < 300
    return (
        f"<tr><td class=n>{at}<td>{escape(arrival.call_id or '-')}{attempt}{body}<td>{escape(arrival.agent or '-')}"
        f"<td>{escape(arrival.form or '-')}<td class=n>{'-' if arrival.rows is None else arrival.rows}<td>{escape(url or '-')}"
        f'<td class="{"ok" if good else "bad"}">{escape(answer)}{problems}</tr>'
    )
