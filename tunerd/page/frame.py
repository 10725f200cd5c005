"""What every page has: head, header, footer; and the parts that several pages share: badges, commands, buttons. Pure."""

from collections.abc import Mapping, Sequence
from typing import Final

from tunerd.page.markup import NOTHING, Html, Part, joined, tag
from tunerd.record import record

_DOCTYPE: Final = Html("<!doctype html>\n")
_STATE_BADGES: Final[Mapping[str, str]] = {
    "sent": "good", "failed": "bad", "due": "late", "sending": "calm", "waiting": "calm", "gathering": "calm", "ignored": "calm",
}  # fmt: skip


@record
class Viewer:
    """Whoever looks at the page."""

    csrf: str = ""
    """Of a session, in which actions are allowed; empty: there is none."""
    can_log_in: bool = False
    """A token is configured."""

    @property
    def may_act(self) -> bool:
        return bool(self.csrf)


def page(title: str, body: Sequence[Part], viewer: Viewer, version: str, *, live: bool = False) -> bytes:
    """The whole document. `live`: it refreshes itself."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("title", f"{title} · tunerd"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href="/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href="/page.css"),
        tag("script", src="/page.js", defer=True) if live else NOTHING,
        tag("noscript", tag("meta", http_equiv="refresh", content="15")) if live else NOTHING,
    )
    find = tag(
        "form",
        tag("input", type="text", name="id", placeholder="call id", aria_label="call id", required=True, autocomplete="off"),
        tag("button", "Find"),
        class_="find", action="/call", method="get",
    )  # fmt: skip
    header = tag("header", tag("a", "tunerd", href="/", class_="brand"), find, _login(viewer))
    foot = tag("footer", f"tunerd {version} · ", tag("a", "status.json", href="/status.json"))
    shown = tag(
        "body", tag("div", id="silence", role="alert", hidden=True), header, tag("main", *body, data_live=live or None), foot
    )
    return joined(_DOCTYPE, tag("html", head, shown, lang="en")).encode("utf-8", "backslashreplace")


def _login(viewer: Viewer) -> Html:
    if viewer.may_act:
        return form("/logout", viewer, {}, "Log out")
    return tag("a", "Log in", href="/login") if viewer.can_log_in else NOTHING


def form(action: str, viewer: Viewer, fields: Mapping[str, str], button: str, *, main: bool = False) -> Html:
    """A button that posts; only for a viewer who is logged in."""
    posted = {**fields, "csrf": viewer.csrf}
    hidden = [tag("input", type="hidden", name=name, value=value) for name, value in posted.items()]
    return tag("form", *hidden, tag("button", button, class_="main" if main else None), action=action, method="post")


def asked(action: str, viewer: Viewer, fields: Mapping[str, str], button: str, question: str) -> Html:
    """A button that asks before it posts."""
    sure = form(action, viewer, fields, button, main=True)
    return tag("details", tag("summary", button), tag("p", question), sure, class_="ask")


def badge(kind: str, words: str) -> Html:
    return tag("span", words, class_=f"badge {kind}")


def state_badge(state: str) -> Html:
    return badge(_STATE_BADGES.get(state, "calm"), state)


def card(title: str, *parts: Part) -> Html:
    return tag("section", tag("h2", title), *parts, class_="card")


def row(*parts: Part) -> Html:
    return tag("div", *parts, class_="row")
