"""The last hour as a small picture: a column for each minute, arrivals above the line, deliveries and failures below it. Pure."""

from typing import Final

from tunerd.admin.answer_types import LastHourRow
from tunerd.admin.phrases import count_of
from tunerd.page.markup import Html, joined, tag

_WIDTH: Final = 10
_HALF: Final = 46
"""Height of each half, in the units of the picture."""
_GAP: Final = 2


def hour_picture(hour: LastHourRow) -> Html:
    minutes = len(hour.admitted)
    most = max(1, *hour.admitted, *(sent + failed for sent, failed in zip(hour.sent, hour.failed, strict=True)))
    columns = [
        _column(at, admitted, sent, failed, _HALF / most)
        for at, (admitted, sent, failed) in enumerate(zip(hour.admitted, hour.sent, hour.failed, strict=True))
    ]
    totals = f"{count_of(sum(hour.admitted), 'call')} arrived, {sum(hour.sent):,} delivered, {sum(hour.failed):,} failed"
    axis = tag("line", class_="axis", x1=0, x2=minutes * _WIDTH, y1=_HALF + _GAP / 2, y2=_HALF + _GAP / 2)
    picture = tag(
        "svg", tag("title", f"In the last hour {totals}; at most {most:,} in one minute"), axis, *columns,
        viewBox=f"0 0 {minutes * _WIDTH} {2 * _HALF + _GAP}", role="img", preserveAspectRatio="none",
    )  # fmt: skip
    keys = [
        _key("arrived", f"{sum(hour.admitted):,} arrived"), _key("delivered", f"{sum(hour.sent):,} delivered"),
        _key("lost", f"{sum(hour.failed):,} failed"),
    ]  # fmt: skip
    if any((*hour.admitted, *hour.sent)):
        keys.append(tag("span", f"up to {most:,} a minute", class_="dim"))
    legend = tag("figcaption", *keys)
    return tag("figure", picture, tag("div", tag("span", "one hour ago"), tag("span", "now"), class_="scale dim"), legend)


def _column(at: int, admitted: int, sent: int, failed: int, scale: float) -> Html:
    up, down, lost = (round(count * scale, 2) for count in (admitted, sent, failed))
    below = _HALF + _GAP
    bars = [("arrived", _HALF - up, up), ("delivered", below, down), ("lost", below + down, lost)]
    return joined(*(
        tag("rect", class_=kind, x=at * _WIDTH + 1, y=round(top, 2), width=_WIDTH - 2, height=height)
        for kind, top, height in bars if height
    ))  # fmt: skip


def _key(kind: str, words: str) -> Html:
    return tag("span", words, class_=f"key {kind}")
