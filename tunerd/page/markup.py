"""HTML out of values. Text that is not `Html` is escaped wherever it is put in, with invisible characters shown. Pure."""

from html import escape
from typing import Final, TypeAlias

from tunerd.visible import visible

_WITHOUT_END: Final = frozenset({"input", "link", "meta"})


class Html(str):
    """Text that is HTML already: only this module makes it."""

    __slots__ = ()


Part: TypeAlias = str | Html
Attribute: TypeAlias = str | int | float | bool | None

NOTHING: Final = Html("")


def plain(text: str) -> Html:
    return text if isinstance(text, Html) else Html(escape(visible(text)))


def joined(*parts: Part) -> Html:
    return Html("".join(plain(part) for part in parts))


def tag(name: str, /, *parts: Part, **attributes: Attribute) -> Html:
    """An element. Attributes: `class_` is class, `data_live` is data-live; True has no value, False and None are left out."""
    shown = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None and value is not False)
    if name in _WITHOUT_END:
        return Html(f"<{name}{shown}>")
    return Html(f"<{name}{shown}>{joined(*parts)}</{name}>")


def _attribute(key: str, value: Attribute) -> str:
    name = key.removesuffix("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)))}"'
