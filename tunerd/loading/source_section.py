"""`sources:` -> Source models: everything of a source but its rules, which stay Nodes for mapping/.

Here are the checks of one source, and those between sources; strategies.py reads how calls find recordings.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from zoneinfo import ZoneInfo

from tunerd.config import Source
from tunerd.config.settings import keys_of
from tunerd.loading.overlap import Reach, may_share
from tunerd.loading.reading import ConfigReader, join, nearest
from tunerd.loading.redact_section import redact_of
from tunerd.loading.strategies import Brings, Preset, read_on_missing, read_strategies
from tunerd.loading.tuner import Destinations, TunerBlock, read_tuner
from tunerd.mapping import presets
from tunerd.mapping.patterns import BadPattern, compile_pattern
from tunerd.places import Node

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", re.ASCII)
_ROOT_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_RULES: Final = ("agent", "documents", "gather", "call", "manifest")


@dataclass(slots=True)
class _Draft:
    """A source while it is read."""

    node: Node
    path: str
    nodes: dict[str, Node]
    values: dict[str, Any]
    preset: dict[str, Node] = field(default_factory=dict)
    """The members of its preset."""
    tuner: TunerBlock | None = None

    @property
    def name(self) -> str:
        return str(self.values.get("name", ""))

    @property
    def has_calls(self) -> bool:
        return "call" in self.values or "call" in self.preset

    @property
    def has_recordings(self) -> bool:
        return "manifest" in self.values or "manifest" in self.preset

    @property
    def recordings_have_start(self) -> bool:
        own = self.nodes.get("manifest")
        if own is not None and isinstance(own.value, dict) and "started_at" in own.value:
            return own.value["started_at"].value is not None
        preset = self.preset.get("manifest")
        return preset is not None and isinstance(preset.value, dict) and "started_at" in preset.value


def read_sources(
    reader: ConfigReader,
    node: Node | None,
    root: Node,
    top: TunerBlock,
    environ: Mapping[str, str],
    base: str,
    redact: Mapping[str, Any] | None,
    *,
    resolve_secrets: bool,
) -> tuple[dict[str, Source], Destinations]:
    """All sources that could be read, by their path in the file, and the destinations that they use.

    What is wrong with one does not hide what is wrong with another.
    """
    destinations = Destinations(reader, top, environ, resolve_secrets=resolve_secrets)
    if node is None or node.value is None or node.value == ():
        reader.problem(node or root, "sources", "there is no source: write a list of at least one, `- name: ...` and `path: ...`")
        return {}, destinations
    if not isinstance(node.value, tuple):
        reader.problem(node, "sources", f"takes a list (lines that start with `- `), not {reader.kind_of(node)}")
        return {}, destinations
    drafts = [
        draft
        for at, child in enumerate(node.value)
        if (draft := _draft(reader, child, f"sources[{at}]", base, resolve_secrets=resolve_secrets)) is not None
    ]
    _refuse_same_names(reader, drafts)
    sources = {draft.path: _finish(reader, draft, drafts, top, destinations, redact) for draft in drafts}
    _warn_same_files(reader, drafts)
    return sources, destinations


def _draft(reader: ConfigReader, node: Node, path: str, base: str, *, resolve_secrets: bool) -> _Draft | None:
    if not isinstance(node.value, dict):
        reader.problem(node, path, f"takes a mapping with `name:`, `path:` and rules, not {reader.kind_of(node)}")
        return None
    values, nodes = reader.section(node, path, Source)
    draft = _Draft(node, path, nodes, values)
    for name in ("name", "path"):
        if name not in nodes:
            reader.problem(node, path, f"`{name}:` is missing")
    if "name" in values and not _NAME.fullmatch(values["name"]):
        want = "1 to 64 letters, digits, `-`, `_` or `.`, and starts with a letter or digit"
        reader.problem(nodes["name"], join(path, "name"), f"a name is {want}")
    if "path" in values:
        values["path"] = os.path.abspath(os.path.join(base, values["path"]))
        _check_directory(reader, nodes["path"], join(path, "path"), values["path"])
    for name in _RULES:
        if name in nodes and nodes[name].value is not None:
            if name not in ("agent", "documents") and not isinstance(nodes[name].value, dict):
                reader.problem(
                    nodes[name], join(path, name), f"takes a mapping of `field: rule`, not {reader.kind_of(nodes[name])}"
                )
            values[name] = nodes[name]
    if "gather" in nodes and nodes["gather"].value is None and "preset" in nodes:
        values["gather"] = nodes["gather"]  # says: each document alone, whatever the preset gathers
    _check_patterns(reader, draft)
    _check_path_groups(reader, draft)
    _check_timezone(reader, draft)
    _read_preset(reader, draft)
    _read_after_sent(reader, draft)
    settle, timeout = values.get("settle_s", 1.0), values.get("settle_timeout_s", 60.0)
    if timeout < settle:
        at = nodes.get("settle_timeout") or nodes["settle"]
        reader.problem(at, join(path, "settle_timeout"), "is shorter than `settle`: no document could ever be complete")
    if "tuner" in nodes:
        draft.tuner = read_tuner(reader, nodes["tuner"], join(path, "tuner"), node.place, base, resolve_secrets=resolve_secrets)
    return draft


def _finish(
    reader: ConfigReader,
    draft: _Draft,
    drafts: Sequence[_Draft],
    top: TunerBlock,
    destinations: Destinations,
    redact: Mapping[str, Any] | None,
) -> Source:
    """What needs to know the other sources, and the model. What was wrong is left out of it: its rules can still be checked."""
    values, path = draft.values, draft.path
    if not draft.has_calls and not draft.has_recordings and not ({"preset", "call", "manifest"} & draft.nodes.keys()):
        reader.problem(draft.node, path, "has no rules: give it a `preset:`, a `call:` or a `manifest:`")
    if draft.has_calls:
        own = draft.tuner or TunerBlock(join(path, "tuner"), draft.node.place)
        destination = destinations.of(draft.name, own)
        values["destination"] = destination.name if destination else ""
        block = own.over(top)
        values["agent_remote_identifier"] = block.values.get("agent_remote_identifier")
        if "agent_remote_identifier" not in block.given and "agent" not in values and "agent" not in draft.preset:
            want = "`agent_remote_identifier: name` under `tuner:`, or a rule `agent: doc.agent_id` here"
            reader.problem(draft.node, join(path, "agent"), f"nothing says whose calls these are: {want}")
    _read_recording(reader, draft, drafts)
    _read_redact(reader, draft, redact)
    return Source(**{"name": path, "path": "/", **values})


def _check_directory(reader: ConfigReader, node: Node, path: str, directory: str) -> None:
    if os.path.isdir(directory):
        if not os.access(directory, os.R_OK | os.X_OK):
            reader.warn(node, path, f"the directory {directory} cannot be read by this user")
    elif os.path.lexists(directory):
        reader.problem(node, path, f"{directory} is not a directory; name the directory here, and the file under `include:`")
    else:
        reader.warn(node, path, f"there is no directory {directory} yet; the source is read as soon as it is there")


def _check_patterns(reader: ConfigReader, draft: _Draft) -> None:
    for name in ("include", "exclude"):
        if name not in draft.values:
            continue
        at = join(draft.path, name)
        if name == "include" and not draft.values[name]:
            reader.problem(draft.nodes[name], at, 'is empty, so nothing would be read; write patterns like ["*.json"]')
        for pattern in draft.values[name]:
            if pattern.startswith("/") or ".." in pattern.split("/"):
                reader.problem(draft.nodes[name], at, "patterns are names below `path:`, without a leading / and without ..")


def _check_path_groups(reader: ConfigReader, draft: _Draft) -> None:
    pattern = draft.values.get("path_groups")
    if pattern is None:
        return
    node, at = draft.nodes["path_groups"], join(draft.path, "path_groups")
    try:
        groups = compile_pattern(pattern).names
    except BadPattern as exc:
        reader.problem(node, at, str(exc))
        return
    if not groups:
        reader.problem(node, at, "has no named group; write (?P<name>...) for each part that rules shall see")
    for name in groups:
        if not _ROOT_NAME.fullmatch(name):
            reader.problem(node, at, f"the group `{name}` cannot be used in rules: lower case letters, digits and _ only")


def _check_timezone(reader: ConfigReader, draft: _Draft) -> None:
    zone = draft.values.get("timezone")
    if zone is None or zone == "UTC":
        return
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        want = "a name of the time zone database, like UTC or Europe/Berlin"
        reader.problem(draft.nodes["timezone"], join(draft.path, "timezone"), f"takes {want}")


def _read_preset(reader: ConfigReader, draft: _Draft) -> None:
    name = draft.values.get("preset")
    if name is None:
        return
    known = presets.names()
    if name not in known:
        near = nearest(name, known)
        hint = f"did you mean `{near}`?" if near else f"there are: {', '.join(known)}"
        reader.problem(draft.nodes["preset"], join(draft.path, "preset"), f"there is no such preset; {hint}")
        return
    draft.preset = presets.load(name)


def _read_after_sent(reader: ConfigReader, draft: _Draft) -> None:
    node = draft.nodes.get("after_sent")
    if node is None or reader.is_broken(node):
        return
    at = join(draft.path, "after_sent")
    if node.value in ("keep", "delete"):
        draft.values["after_sent"] = node.value
        return
    if isinstance(node.value, dict):
        target = reader.members(node, at, ("move_to",)).get("move_to")
        text = reader.text(target, join(at, "move_to"), "a directory, like done/") if target is not None else None
        if text is not None and target is not None:
            draft.values["after_sent"] = "move_to"
            draft.values["move_to"] = text
            directory = os.path.abspath(os.path.join(draft.values.get("path", "/"), text))
            if directory == draft.values.get("path"):
                reader.problem(target, join(at, "move_to"), "is the directory that is read; name another, like done/")
        if target is not None or node.value:
            return
    reader.problem(node, at, f"takes keep, delete or {{move_to: done/}}, not {reader.shown(node)}")


_STRATEGIES: Final = 'write `recording:` with `- url: ...` or `- manifest: ...`, or `on_missing: {send: "https://..."}`'


def _read_recording(reader: ConfigReader, draft: _Draft, drafts: Sequence[_Draft]) -> None:
    """The strategies: the source's own, else its preset's, both checked against the sources that are there."""
    own, path = draft.nodes.get("recording"), join(draft.path, "recording")
    on_missing = draft.nodes.get("on_missing")
    if (kept := read_on_missing(reader, on_missing, draft.nodes.get("hold_for"), draft.path)) is not None:
        draft.values["on_missing"] = kept
    brings = {
        other.name: Brings(recordings=other.has_recordings, start=other.recordings_have_start) for other in drafts if other.name
    }
    sends_anyway = on_missing is not None and isinstance(on_missing.value, dict)
    if own is not None and own.value is not None:
        if not draft.has_calls and not ({"preset", "call"} & draft.nodes.keys()):
            reader.problem(own, path, "has no use here: this source gives no calls")
        draft.values["recording"] = read_strategies(reader, own, path, brings)
        if own.value == () and draft.has_calls and not sends_anyway:  # instead of the preset's strategies, none at all
            reader.problem(own, path, f"an empty list finds no recording: {_STRATEGIES}")
    elif draft.has_calls and "recording" in draft.preset:
        at = Preset(node=draft.nodes["preset"], path=join(draft.path, "preset"))
        draft.values["recording"] = read_strategies(reader, draft.preset["recording"], path, brings, at)
    elif draft.has_calls and not sends_anyway:
        reader.problem(draft.node, path, f"nothing says where the audio of its calls is: {_STRATEGIES}")


def _read_redact(reader: ConfigReader, draft: _Draft, top: Mapping[str, Any] | None) -> None:
    own, at = draft.nodes.get("redact"), join(draft.path, "redact")
    redact = redact_of(reader, own, at, top)
    draft.values["redact"] = redact if draft.has_calls else None
    if own is not None and own.value is not None and not draft.has_calls:
        reader.problem(own, at, "has no use here: this source gives no calls, and recordings are not redacted")
    gather = draft.nodes.get("gather") or draft.nodes.get("preset")
    gathers = draft.values["gather"].value is not None if "gather" in draft.values else "gather" in draft.preset
    if redact is not None and redact.stored and gather is not None and gathers:
        # Parts are kept as they stand on disk until the call is whole and can be mapped; only then is anything redacted.
        say = "write `stored: false` under `redact:` if that is acceptable, or gather before tunerd"
        if "gather" in draft.preset:
            say += "; `gather: null` takes each document of the preset for a whole call"
        reader.problem(gather, join(draft.path, "gather"), f"keeps the parts of calls in the ledger, not redacted: {say}")


def _refuse_same_names(reader: ConfigReader, drafts: Sequence[_Draft]) -> None:
    first: dict[str, Node] = {}
    for draft in drafts:
        if not draft.name:
            continue
        node = draft.nodes["name"]
        if draft.name in first:
            line = first[draft.name].place.line
            reader.problem(node, join(draft.path, "name"), f"another source has this name (line {line}); each needs its own")
        else:
            first[draft.name] = node


def _warn_same_files(reader: ConfigReader, drafts: Sequence[_Draft]) -> None:
    reaches = [_reach(draft) for draft in drafts]
    for at, (one, ours) in enumerate(zip(drafts, reaches, strict=True)):
        for other, theirs in zip(drafts[:at], reaches[:at], strict=True):
            if ours is not None and theirs is not None and may_share(ours, theirs):
                message = (
                    f"may read the same files as source `{other.name}` (line {other.node.place.line}); use include and exclude"
                )
                reader.warn(one.nodes["path"], join(one.path, "path"), message)


def _reach(draft: _Draft) -> Reach | None:
    if "path" not in draft.values:
        return None
    return Reach(
        directory=os.path.realpath(draft.values["path"]),
        include=draft.values.get("include", keys_of(Source)["include"].default),
        exclude=draft.values.get("exclude", ()),
        recursive=draft.values.get("recursive", False),
    )
