"""The sandbox's page: plain HTML without scripts or foreign assets, everything escaped. Pure: arrivals in, text out."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from tunerd.sandbox.arrivals import NOT_ANSWERED, Arrival, in_short

SHOWN: Final = 200

_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="2"><title>tunerd sandbox</title><style>
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid #8885; padding: .35rem .6rem; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } td.n { text-align: right; font-variant-numeric: tabular-nums; }
.ok { color: #18794e; } .bad { color: #cd2b31; } small, pre { color: GrayText; } pre { white-space: pre-wrap; }
</style></head><body>
<h1>tunerd sandbox</h1>
<p>A stand-in for Tuner. Nothing that arrives here leaves this machine.</p>
"""


def render(arrivals: Sequence[Arrival], counts: Mapping[str, int], *, show: bool) -> str:
    """`arrivals` oldest first; the page has the newest SHOWN first. With `show` also bodies and whole URLs."""
    told = ", ".join(f"{escape(note)}: {count}" for note, count in sorted(counts.items())) or "nothing yet"
    rows = "".join(_row(arrival, show=show) for arrival in list(arrivals)[-SHOWN:][::-1])
    head = "<tr><th>Time (UTC)<th>Call id<th>Agent<th>Form<th>Rows<th>Recording<th>Answer</tr>"
    return f"{_HEAD}<p>{told}</p><table><thead>{head}</thead><tbody>{rows}</tbody></table></body></html>\n"


def _row(arrival: Arrival, *, show: bool) -> str:
    at = datetime.fromtimestamp(arrival.at, UTC).strftime("%H:%M:%S.%f")[:-3]
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
