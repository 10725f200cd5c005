"""`recording:` and `on_missing:` of a source: how a call finds its audio, and what becomes of it without. Pure.

The rules inside stay Nodes. A preset's strategies are read here too, so that both are checked alike against the sources
that are there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tunerd.call import Fail, Hold, OnMissing, SendAnyway
from tunerd.config import ManifestRule, UrlRule
from tunerd.config.settings import DAY_S
from tunerd.loading.reading import ConfigReader, join, nearest
from tunerd.location import MAX_URL_CHARS, url_problem
from tunerd.places import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Brings:
    """What another source has for the strategies that name it."""

    recordings: bool
    start: bool
    """Its recordings have a `started_at`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Where `preset:` stands in the source: a strategy from a preset is a problem of that line."""

    node: Node
    path: str


def read_strategies(
    reader: ConfigReader, node: Node, path: str, sources: Mapping[str, Brings], preset: Preset | None = None
) -> tuple[UrlRule | ManifestRule, ...]:
    """The strategies of one source (a list, or one alone); wrong ones are left out with a problem noted."""
    items = node.value if isinstance(node.value, tuple) else (node,)
    found: list[UrlRule | ManifestRule | None] = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        if not isinstance(item.value, dict):
            want = "`- url: rule`, or `- manifest: source` with `key: rule`"
            reader.problem(item, at, f"a strategy is {want}; not {reader.kind_of(item)}")
        elif ("url" in item.value) == ("manifest" in item.value):
            which = "both: make two of it" if "url" in item.value else "neither"
            reader.problem(item, at, f"a strategy has either `url:` or `manifest:`; this one has {which}")
        elif "url" in item.value:
            found.append(UrlRule(**reader.section(item, at, UrlRule)[1]))
        else:
            found.append(_manifest(reader, item, at, sources, preset))
    return tuple(rule for rule in found if rule is not None)


def _manifest(
    reader: ConfigReader, item: Node, at: str, sources: Mapping[str, Brings], preset: Preset | None
) -> ManifestRule | None:
    values, nodes = reader.section(item, at, ManifestRule)
    if "key" in nodes:
        values["key"] = nodes["key"]
    else:
        reader.problem(item, at, "`key:` is missing: the rule that gives this call's key, like `key: doc.room`")
    place, path = (preset.node, preset.path) if preset else (nodes["manifest"], join(at, "manifest"))
    name = values.get("manifest")
    named = sources.get(name) if name is not None else None
    if named is not None and not named.recordings:
        reader.problem(place, path, f"the source `{name}` gives no recordings: it needs a `manifest:` (or a preset that has one)")
    elif name is not None and named is None:
        reader.problem(place, path, _no_source(name, sources, preset is not None))
    within = nodes.get("within")
    if within is not None and within.value == "any":
        values["within_s"] = None
    else:
        if within is not None:
            values["within_s"] = reader.duration(within, join(at, "within"), "a duration like 10m, or any")
        if named is not None and named.recordings and not named.start:
            say = "write `within: any`, or give its `manifest:` a `started_at:`"
            where = preset.node if preset else within or item
            reader.problem(where, join(at, "within"), f"the recordings of `{name}` have no start to compare with: {say}")
    return ManifestRule(**values) if {"key", "manifest"} <= values.keys() else None


def _no_source(name: str, sources: Mapping[str, Brings], from_preset: bool) -> str:
    if from_preset:
        return f"its preset looks for recordings in a source named `{name}`, which is not here: add it, or write `recording:`"
    others = [other for other, brings in sources.items() if brings.recordings]
    near = nearest(name, others)
    return f"there is no source `{name}`; " + (
        f"did you mean `{near}`?" if near else f"sources with recordings here: {', '.join(others) or 'none'}"
    )


def read_on_missing(reader: ConfigReader, node: Node | None, hold_for: Node | None, path: str) -> OnMissing | None:
    """What `on_missing:` and `hold_for:` say; None with a problem noted. `path` is the source's."""
    at = join(path, "on_missing")
    hold_s = None if hold_for is None else reader.duration(hold_for, join(path, "hold_for"), "a duration like 14d")
    if node is None or node.value == "hold":
        return Hold(hold_s=14 * DAY_S if hold_s is None else hold_s)
    if hold_for is not None:
        reader.problem(hold_for, join(path, "hold_for"), "goes with `on_missing: hold`")
    if reader.is_broken(node):
        return None
    if node.value == "fail":
        return Fail()
    if isinstance(node.value, dict) and node.value:
        target = reader.members(node, at, ("send",)).get("send")
        if target is None or reader.is_broken(target):
            return None
        if isinstance(target.value, str) and len(target.value) <= MAX_URL_CHARS and url_problem(target.value) is None:
            return SendAnyway(url=target.value)
        reader.problem(target, join(at, "send"), f"takes a URL that starts with https://, at most {MAX_URL_CHARS} characters")
        return None
    reader.problem(node, at, f'takes hold, fail or {{send: "https://..."}}, not {reader.shown(node)}')
    return None
