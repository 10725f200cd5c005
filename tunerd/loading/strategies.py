"""`recording:` and `on_missing:` of a source: how a call finds its audio, and what happens to a call that finds none. Pure.

The rules inside stay Nodes. Strategies of a preset are checked here, too: against the sources that are there.
"""

from collections.abc import Collection, Mapping
from typing import Final

from tunerd.call import Fail, Hold, OnMissing, SendAnyway
from tunerd.config import FileRule, ManifestRule, UrlRule
from tunerd.config.settings import DAY_S
from tunerd.loading.reading import ConfigBlock, ConfigReader, join, nearest
from tunerd.location import MAX_URL_CHARS, BadLocation, url_location
from tunerd.yaml_location import Node

_KINDS: Final = ("url", "manifest", "file")


def read_strategies(
    reader: ConfigReader, node: Node, path: str
) -> list[tuple[UrlRule | ManifestRule | FileRule | None, ConfigBlock]]:
    """The strategies of one source (a list, or one alone); None, with a problem noted, for one that is wrong."""
    found: list[tuple[UrlRule | ManifestRule | FileRule | None, ConfigBlock]] = []
    for index, item in enumerate(node.value if isinstance(node.value, tuple) else (node,)):
        at = f"{path}[{index}]"
        if not isinstance(item.value, dict):
            want = "`- url: rule`, `- file: rule`, or `- manifest: source` with `key: rule`"
            reader.problem(item, at, f"a strategy is {want}; not {reader.kind_of(item)}")
        elif len(kinds := [kind for kind in _KINDS if kind in item.value]) != 1:
            which = f"{' and '.join(kinds)}: make a strategy of each" if kinds else "none"
            reader.problem(item, at, f"a strategy has one of `url:`, `manifest:` and `file:`; this one has {which}")
        elif "file" in item.value:
            found.append(_file(reader.section(item, at, FileRule)))
        elif "url" in item.value:
            block = reader.section(item, at, UrlRule)
            found.append((UrlRule(**block.nodes), block))
        else:
            found.append(_manifest(reader.section(item, at, ManifestRule)))
    return found


def _manifest(block: ConfigBlock) -> tuple[ManifestRule | None, ConfigBlock]:
    if "key" in block.nodes:
        block.values["key"] = block.nodes["key"]
    else:
        block.problem("", "`key:` is missing: the rule that gives this call's key, like `key: doc.room`")
    return ManifestRule(**block.values) if {"key", "manifest"} <= block.values.keys() else None, block


def _file(block: ConfigBlock) -> tuple[FileRule | None, ConfigBlock]:
    rule = block.nodes["file"]
    if not isinstance(rule.value, str):
        block.problem("file", "is one expression, like concat(doc.id, '.wav')")
        return None, block
    if "directory" in block.values:
        block.values["directory"] = block.reader.absolute(block.values["directory"])
        if block.values["directory"] == "/":
            block.problem("in", "names the whole file system; name the directory that holds the recordings")
    return FileRule(file=rule, **block.values), block


def check_strategy(
    rule: ManifestRule, block: ConfigBlock, sources: Collection[str], brings: Mapping[str, bool], preset: ConfigBlock | None
) -> None:
    """Whether the source that a strategy names brings recordings (`brings`: with or without their start). A strategy of a
    preset is a problem of the line `preset:`, in the block of the source."""
    name, at, manifest, within = rule.manifest, block, "manifest", "within"
    if preset is not None:
        at, manifest, within = preset, "preset", "preset"
    if name in brings:
        if not brings[name] and rule.within_s is not None:
            say = "write `within: any`, or give its `manifest:` a `started_at:`"
            at.problem(within, f"the recordings of `{name}` have no start to compare with: {say}")
    elif name in sources:
        at.problem(manifest, f"the source `{name}` gives no recordings: it needs a `manifest:` (or a preset that has one)")
    elif preset is not None:
        say = "which is not here: add it, or write `recording:`"
        at.problem(manifest, f"its preset looks for recordings in a source named `{name}`, {say}")
    else:
        near = nearest(name, brings)
        hint = f"did you mean `{near}`?" if near else f"sources with recordings here: {', '.join(brings) or 'none'}"
        at.problem(manifest, f"there is no source `{name}`; {hint}")


def read_on_missing(source: ConfigBlock) -> OnMissing | None:
    """What `on_missing:` and `hold_for:` say; None with a problem noted."""
    reader, node, hold_for, path = source.reader, source.nodes.get("on_missing"), source.nodes.get("hold_for"), source.path
    hold_s = None if hold_for is None else reader.duration(hold_for, join(path, "hold_for"), "a duration like 14d")
    if node is None or node.value == "hold":
        return Hold(hold_s=14 * DAY_S if hold_s is None else hold_s)
    if hold_for is not None:
        source.problem("hold_for", "goes with `on_missing: hold`")
    if reader.is_broken(node):
        return None
    if node.value == "fail":
        return Fail()
    if not isinstance(node.value, dict) or not node.value:
        source.problem("on_missing", f'takes hold, fail or {{send: "https://..."}}, not {reader.shown(node)}')
        return None
    at = join(path, "on_missing")
    target = reader.members(node, at, ("send",)).get("send")
    if target is None or reader.is_broken(target):
        return None
    if isinstance(target.value, str) and len(target.value) <= MAX_URL_CHARS and _is_url(target.value):
        return SendAnyway(url=target.value)
    reader.problem(target, join(at, "send"), f"takes a URL that starts with https://, at most {MAX_URL_CHARS} characters")
    return None


def _is_url(text: str) -> bool:
    try:
        url_location(text)
    except BadLocation:
        return False
    return True
