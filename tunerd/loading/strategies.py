"""`recording:` and `on_missing:` of a source: how a call finds its audio, and what happens to a call that finds none. Pure.

The rules inside stay Nodes. Strategies of a preset are checked here, too: against the sources that are there.
"""

from collections.abc import Collection, Mapping
from typing import Final

from tunerd.call import Fail, Hold, OnMissing, SendAnyway
from tunerd.config import FileRule, ManifestRule, NearestRule, StrategyRule, UrlRule
from tunerd.config.settings import DAY_S
from tunerd.loading.reading import ConfigBlock, ConfigReader, join, nearest
from tunerd.location import MAX_URL_CHARS, BadLocation, url_location
from tunerd.mapping.manifest_facts import ManifestFacts
from tunerd.mapping.match_values import names_in
from tunerd.yaml_location import Node

_KINDS: Final = ("url", "manifest", "nearest", "file")
_WANTED: Final = "`- url: rule`, `- file: rule`, `- manifest: source` with `key: rule`, or `- nearest: source` with `within:`"


def read_strategies(reader: ConfigReader, node: Node, path: str) -> list[tuple[StrategyRule | None, ConfigBlock]]:
    """The strategies of one source (a list, or one alone); None, with a problem noted, for one that is wrong."""
    found: list[tuple[StrategyRule | None, ConfigBlock]] = []
    for index, item in enumerate(node.value if isinstance(node.value, tuple) else (node,)):
        at = f"{path}[{index}]"
        if not isinstance(item.value, dict):
            reader.problem(item, at, f"a strategy is {_WANTED}; not {reader.kind_of(item)}")
        elif len(kinds := [kind for kind in _KINDS if kind in item.value]) != 1:
            which = f"{' and '.join(kinds)}: make a strategy of each" if kinds else "none"
            reader.problem(item, at, f"a strategy has one of `url:`, `manifest:`, `nearest:` and `file:`; this one has {which}")
        elif "file" in item.value:
            found.append(_file(reader.section(item, at, FileRule)))
        elif "url" in item.value:
            block = reader.section(item, at, UrlRule)
            found.append((UrlRule(**block.nodes), block))
        elif "nearest" in item.value:
            found.append(_nearest(reader.section(item, at, NearestRule)))
        else:
            found.append(_manifest(reader.section(item, at, ManifestRule)))
    return found


def _manifest(block: ConfigBlock) -> tuple[ManifestRule | None, ConfigBlock]:
    if "key" in block.nodes:
        block.values["key"] = block.nodes["key"]
    else:
        block.problem("", "`key:` is missing: the rule that gives this call's key, like `key: doc.room`")
    return ManifestRule(**block.values) if {"key", "manifest"} <= block.values.keys() else None, block


def _nearest(block: ConfigBlock) -> tuple[NearestRule | None, ConfigBlock]:
    same, one_at_a_time = block.nodes.get("same"), block.values.get("one_at_a_time", False)
    if "within" not in block.nodes:
        block.problem("", "`within:` is missing: how far apart the call and its recording may start, like 2m")
    if same is not None and not names_in(same):
        block.problem("same", "takes a mapping of names and rules, like {caller: doc.from}")
    elif (same is not None) == one_at_a_time:
        which = "takes one of the two" if one_at_a_time else "is missing"
        say = "`same: {caller: doc.from}`, or `one_at_a_time: true` if whoever is recorded takes one call at a time"
        block.problem("", f"what tells the recordings of other calls apart {which}: {say}")
    else:
        complete = {"nearest", "within_s"} <= block.values.keys()
        return NearestRule(**block.values, same=same) if complete else None, block
    return None, block


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
    rule: ManifestRule | NearestRule,
    block: ConfigBlock,
    sources: Collection[str],
    brings: Mapping[str, ManifestFacts],
    preset: ConfigBlock | None,
) -> None:
    """Whether the source that a strategy names brings the recordings that it needs. A strategy of a preset is a problem of the
    line `preset:`, in the block of the source."""
    manifest = "manifest" if isinstance(rule, ManifestRule) else "nearest"
    name, at = rule.manifest if isinstance(rule, ManifestRule) else rule.nearest, block
    if preset is not None:
        at, manifest = preset, "preset"
    if name in brings:
        for key, what in _missing(rule, name, brings[name]):
            at.problem(key if preset is None else "preset", what)
    elif name in sources:
        at.problem(manifest, f"the source `{name}` gives no recordings: it needs a `manifest:` (or a preset that has one)")
    elif preset is not None:
        say = "which is not here: add it, or write `recording:`"
        at.problem(manifest, f"its preset looks for recordings in a source named `{name}`, {say}")
    else:
        near = nearest(name, brings)
        hint = f"did you mean `{near}`?" if near else f"sources with recordings here: {', '.join(brings) or 'none'}"
        at.problem(manifest, f"there is no source `{name}`; {hint}")


def _missing(rule: ManifestRule | NearestRule, name: str, facts: ManifestFacts) -> list[tuple[str, str]]:
    """What the recordings of a source lack for a strategy: the key to name, and the words."""
    found: list[tuple[str, str]] = []
    if not facts.has_start and rule.within_s is not None:
        say = "write `within: any`, or give its `manifest:` a `started_at:`"
        if isinstance(rule, NearestRule):
            say = "give its `manifest:` a `started_at:`"
        found.append(("within", f"the recordings of `{name}` have no start to compare with: {say}"))
    if isinstance(rule, ManifestRule):
        if not facts.has_key:
            found.append(("manifest", f"the recordings of `{name}` have no key: give its `manifest:` one, or use `nearest:`"))
        if rule.pick == "longest" and not facts.has_duration:
            say = "give its `manifest:` a `duration_ms:`, or pick another"
            found.append(("pick", f"the recordings of `{name}` do not say how long they are: {say}"))
        if rule.pick in ("first", "last") and not facts.has_start:
            found.append(("pick", f"the recordings of `{name}` have no start to compare: give its `manifest:` a `started_at:`"))
    elif (wanted := names_in(rule.same) or frozenset()) != facts.match:
        say = f"gives {', '.join(sorted(facts.match)) or 'none'} under `match:`; both need the same names"
        say += "" if wanted else " (with `one_at_a_time` none)"
        found.append(("same" if rule.same is not None else "nearest", f"the manifest of `{name}` {say}"))
    return found


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
