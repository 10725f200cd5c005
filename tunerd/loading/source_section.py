"""`sources:` -> Source models: everything of a source but its rules, which stay Nodes for mapping/.

Here are the checks of one source, and those between sources; strategies.py reads how calls find recordings.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tunerd.config import FileRule, ManifestRule, NearestRule, Source
from tunerd.loading.audio_section import read_audio, refuse_audio, warn_of_objects
from tunerd.loading.overlap import may_share
from tunerd.loading.reading import ConfigBlock, ConfigReader, join, meant
from tunerd.loading.redact_section import redact_of
from tunerd.loading.strategies import check_strategy, read_on_missing, read_strategies
from tunerd.loading.tuner import Destinations, TunerBlock, read_tuner
from tunerd.loading.verify_section import read_verify
from tunerd.mapping import manifest_sources, presets
from tunerd.mapping.patterns import BadPattern, compile_pattern
from tunerd.yaml_location import Node

_ROOT_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_RULES: Final = ("agent", "documents", "gather", "call", "manifest")
_STRATEGIES: Final = 'write `recording:` with `- url: ...` or `- manifest: ...`, or `on_missing: {send: "https://..."}`'


@dataclass(slots=True)
class _Draft:
    """A source while it is read: what it says, and its rules with the preset's underneath."""

    block: ConfigBlock
    source: Source
    rules: presets.Effective

    @property
    def path(self) -> str:
        return self.block.path

    @property
    def holds_audio(self) -> bool:
        """Whether its manifests hold the audio itself."""
        manifest = self.rules.manifest.value if self.rules.manifest is not None else None
        return isinstance(manifest, dict) and "audio" in manifest


def read_sources(
    reader: ConfigReader, node: Node | None, root: Node, top: TunerBlock, redact: Mapping[str, Any] | None
) -> tuple[dict[str, Source], Destinations]:
    """All sources that could be read, by their path in the file, and the destinations that they use.

    What is wrong with one does not hide what is wrong with another.
    """
    destinations = Destinations(reader, top)
    if node is None or node.value is None or node.value == ():
        reader.problem(node or root, "sources", "there is no source: write a list of at least one, `- name: ...` and `path: ...`")
        return {}, destinations
    if not isinstance(node.value, tuple):
        reader.problem(node, "sources", f"takes a list (lines that start with `- `), not {reader.kind_of(node)}")
        return {}, destinations
    drafts: list[_Draft] = []
    for at, child in enumerate(node.value):
        if isinstance(child.value, dict):
            drafts.append(_draft(reader.section(child, f"sources[{at}]", Source)))
        else:
            want = "a mapping with `name:`, `path:` and rules"
            reader.problem(child, f"sources[{at}]", f"takes {want}, not {reader.kind_of(child)}")
    _refuse_same_names(drafts)
    sources = {draft.path: _finish(draft, drafts, top, destinations, redact) for draft in drafts}
    _warn_same_files(drafts)
    return sources, destinations


def _draft(block: ConfigBlock) -> _Draft:
    """What a source says without a look at the others. What was wrong is left out: its rules can still be checked."""
    reader, values, nodes = block.reader, block.values, block.nodes
    for name in ("name", "path"):
        if name not in nodes:
            block.problem("", f"`{name}:` is missing")
    if "path" in values:
        values["path"] = reader.absolute(values["path"])
        _check_directory(block, values["path"])
    for name in _RULES:
        if name in nodes and nodes[name].value is not None:
            if name not in ("agent", "documents") and not isinstance(nodes[name].value, dict):
                block.problem(name, f"takes a mapping of `field: rule`, not {reader.kind_of(nodes[name])}")
            values[name] = nodes[name]
    if "gather" in nodes and nodes["gather"].value is None and "preset" in nodes:
        values["gather"] = nodes["gather"]  # says: each document alone, whatever the preset gathers
    _check_path_groups(block)
    if (preset := values.get("preset")) is not None and preset not in presets.names():
        block.problem("preset", f"there is no such preset; {meant(preset, presets.names())}")
    _read_after_sent(block)
    if (on_missing := read_on_missing(block)) is not None:
        values["on_missing"] = on_missing
    values["audio"], values["verify"] = read_audio(block), read_verify(block)
    source = Source(**{"name": block.path, "path": "/", **values})
    if source.settle_timeout_s < source.settle_s:
        key = "settle_timeout" if "settle_timeout" in nodes else "settle"
        reader.problem(
            nodes[key], join(block.path, "settle_timeout"), "is shorter than `settle`: no document could ever be complete"
        )
    return _Draft(block, source, presets.effective(source))


def _finish(
    draft: _Draft,
    drafts: Sequence[_Draft],
    top: TunerBlock,
    destinations: Destinations,
    redact: Mapping[str, Any] | None,
) -> Source:
    """What needs to know the other sources and the top of the file."""
    block, rules, path = draft.block, draft.rules, draft.path
    location = block.at if not isinstance(block.at, Node) else block.at.location
    own = TunerBlock(join(path, "tuner"), location)
    if "tuner" in block.nodes:
        own = read_tuner(block.reader, block.nodes["tuner"], own.path, location)
    found: dict[str, Any] = {}
    if rules.call is None and rules.manifest is None and not ({"preset", "call", "manifest"} & block.nodes.keys()):
        block.problem("", "has no rules: give it a `preset:`, a `call:` or a `manifest:`")
    if rules.call is not None:
        destination = destinations.of(str(block.values.get("name", "")), own)
        merged = own.over(top)
        found["destination"] = destination.name if destination else ""
        found["agent_remote_identifier"] = merged.values.get("agent_remote_identifier")
        if "agent_remote_identifier" not in merged.given and rules.agent is None:
            want = "`agent_remote_identifier: name` under `tuner:`, or a rule `agent: doc.agent_id` here"
            block.problem("agent", f"nothing says whose calls these are: {want}")
        refuse_audio(block, draft.source.audio, merged.values.get("api", "auto"))
    for key in [key for key in ("audio", "verify") if rules.call is None and key in block.nodes]:
        block.problem(key, "has no use here: this source gives no calls; write it at the source of the calls")
    found["recording"] = _recording(draft, drafts)
    found["holds_audio"] = draft.holds_audio
    _refuse_without_audio(draft, drafts, found["recording"] or ())
    named = {getattr(rule, "manifest", getattr(rule, "nearest", "")) for rule in found["recording"] or rules.recording}
    urls = [getattr(rule, "url", None) for rule in found["recording"] or rules.recording]
    manifests = [other.rules.manifest for other in drafts if other.source.name in named]
    warn_of_objects(block, draft.source.audio, [*urls, *manifests])
    found["redact"] = _redact(draft, redact)
    return replace(draft.source, **found)


def _check_directory(block: ConfigBlock, directory: str) -> None:
    if os.path.isdir(directory):
        if not os.access(directory, os.R_OK | os.X_OK):
            block.warn("path", f"the directory {directory} cannot be read by this user")
    elif os.path.lexists(directory):
        block.problem("path", f"{directory} is not a directory; name the directory here, and the file under `include:`")
    else:
        block.warn("path", f"there is no directory {directory} yet; the source is read as soon as it is there")


def _check_path_groups(block: ConfigBlock) -> None:
    if (pattern := block.values.get("path_groups")) is None:
        return
    try:
        groups = compile_pattern(pattern).names
    except BadPattern as exc:
        block.problem("path_groups", str(exc))
        return
    if not groups:
        block.problem("path_groups", "has no named group; write (?P<name>...) for each part that rules shall see")
    for name in groups:
        if not _ROOT_NAME.fullmatch(name):
            say = "cannot be used in rules: lower case letters, digits and _ only"
            block.problem("path_groups", f"the group `{name}` {say}")


def _read_after_sent(block: ConfigBlock) -> None:
    if (node := block.given("after_sent")) is None:
        return
    if node.value in ("keep", "delete"):
        block.values["after_sent"] = node.value
        return
    if not isinstance(node.value, dict) or not node.value:
        block.problem("after_sent", f"takes keep, delete or {{move_to: done/}}, not {block.reader.shown(node)}")
        return
    at = join(block.path, "after_sent")
    target = block.reader.members(node, at, ("move_to",)).get("move_to")
    text = block.reader.text(target, join(at, "move_to"), "a directory, like done/") if target is not None else None
    if target is not None and text is not None:
        block.values |= {"after_sent": "move_to", "move_to": text}
        if os.path.abspath(os.path.join(block.values.get("path", "/"), text)) == block.values.get("path"):
            block.reader.problem(target, join(at, "move_to"), "is the directory that is read; name another, like done/")


def _recording(draft: _Draft, drafts: Sequence[_Draft]) -> tuple[Any, ...] | None:
    """The strategies: the source's own, else its preset's, both checked against the sources that are there."""
    block, has_calls = draft.block, draft.rules.call is not None
    own, path = block.nodes.get("recording"), join(draft.path, "recording")
    preset = block if own is None or own.value is None else None
    strategies: list[tuple[Any, ConfigBlock]] = [(rule, block) for rule in draft.rules.recording if has_calls]
    if own is not None and preset is None:
        if not has_calls and not ({"preset", "call"} & block.nodes.keys()):
            block.problem("recording", "has no use here: this source gives no calls")
        strategies = list(read_strategies(block.reader, own, path))
    brings = manifest_sources(other.source for other in drafts)
    for rule, at in strategies:
        if isinstance(rule, ManifestRule | NearestRule):
            check_strategy(rule, at, [other.source.name for other in drafts], brings, preset)
    if draft.source.audio.publish in ("reject", "presign") and any(isinstance(rule, FileRule) for rule, _ in strategies):
        say = "and Tuner cannot fetch a file of this machine: write `audio: upload` (or `audio: {url: rule}`) for this source"
        block.problem("recording" if preset is None else "preset", f"finds recordings with `file:`, {say}")
    holders = {other.source.name for other in drafts if other.holds_audio and other.rules.needs_audio is None}
    for name in [rule.manifest for rule, _ in strategies if isinstance(rule, ManifestRule) and rule.manifest in holders]:
        if draft.source.audio.publish != "upload":
            say = "which reaches Tuner only by an upload: write `audio: upload` for this source"
            block.problem("recording" if preset is None else "preset", f"the documents of `{name}` hold the audio itself, {say}")
    on_missing = block.nodes.get("on_missing")
    if has_calls and not strategies and not (on_missing is not None and isinstance(on_missing.value, dict)):
        if own is not None and own.value == ():  # instead of the preset's strategies, none at all
            block.problem("recording", f"an empty list finds no recording: {_STRATEGIES}")
        elif preset is not None:
            block.reader.problem(block.at, path, f"nothing says where the audio of its calls is: {_STRATEGIES}")
    return None if preset is not None and not strategies else tuple(rule for rule, _ in strategies if rule is not None)


def _refuse_without_audio(draft: _Draft, drafts: Sequence[_Draft], strategies: Sequence[Any]) -> None:
    """Recordings that Tuner cannot fetch, and nothing that says how they reach it: by the preset of the calls, or by the
    preset of a source that a strategy names."""
    if (
        draft.rules.call is None
        or draft.source.audio.publish != "reject"
        or any(isinstance(rule, FileRule) for rule in strategies)
    ):
        return  # a `file:` strategy was refused already
    own = draft.block.nodes.get("recording")
    named = [rule.manifest for rule in strategies if isinstance(rule, ManifestRule)]
    found = [other for other in drafts if other.source.name in named]
    for one in found if own is not None and own.value is not None else [draft, *found]:
        needed = one.rules.needs_audio
        if needed is not None and needed.unless_set not in draft.block.reader.environ:
            say = "write `audio: upload` here" + (f", or set {needed.unless_set}" if needed.unless_set else "")
            what = f"by the preset {one.source.preset} a recording is {needed.what}"
            draft.block.problem("audio", f"{what}, which Tuner cannot fetch: {say}")
            return


def _redact(draft: _Draft, top: Mapping[str, Any] | None) -> Any:
    block, rules = draft.block, draft.rules
    own = block.nodes.get("redact")
    redact = redact_of(block.reader, own, join(draft.path, "redact"), top)
    if rules.call is None:
        if own is not None and own.value is not None:
            block.problem("redact", "has no use here: this source gives no calls, and recordings are not redacted")
        return None
    if redact is not None and redact.stored and rules.gather is not None and not rules.alone:
        # Parts are kept as they are on disk until the call is whole and can be mapped; only then is anything redacted.
        say = "write `stored: false` under `redact:` if that is acceptable, or gather before tunerd"
        if block.nodes.get("preset") is not None and "gather" not in block.nodes:
            say += "; `gather: null` takes each document of the preset for a whole call"
        at = block.nodes.get("gather") or block.nodes["preset"]
        message = f"keeps the parts of calls in the ledger, not redacted: {say}"
        block.reader.problem(at, join(draft.path, "gather"), message)
    return redact


def _refuse_same_names(drafts: Sequence[_Draft]) -> None:
    first: dict[str, Node] = {}
    for draft in drafts:
        if (name := draft.block.values.get("name")) is None:
            continue
        if name in first:
            line = first[name].location.line
            draft.block.problem("name", f"another source has this name (line {line}); each needs its own")
        first.setdefault(name, draft.block.nodes["name"])


def _warn_same_files(drafts: Sequence[_Draft]) -> None:
    real = [replace(draft.source, path=os.path.realpath(draft.source.path)) for draft in drafts]
    for at, (one, ours) in enumerate(zip(drafts, real, strict=True)):
        for other, theirs in zip(drafts[:at], real[:at], strict=True):
            if {"path"} <= one.block.values.keys() & other.block.values.keys() and may_share(ours, theirs):
                line = other.block.nodes["path"].location.line
                say = f"may read the same files as source `{other.source.name}` (line {line}); use include and exclude"
                one.block.warn("path", say)
