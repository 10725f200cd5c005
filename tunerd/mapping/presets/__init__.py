"""Ready-made rules of voice platforms: plain YAML beside this file, and how a source's own rules go over a preset's.

Own fields, let names and refusals replace the preset's of the same name, each as a whole (transcript blocks and `gather:`
too); null switches one off.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any, Final, Literal

from tunerd.config import FileRule, ManifestRule, NearestRule, Source, StrategyRule, UrlRule
from tunerd.config.text_forms import parse_seconds, parse_within
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.record import positional_record
from tunerd.tuner_fields import ROWS
from tunerd.yaml_location import Node, Problem, YamlLocation

_MEMBERS: Final = frozenset({"gather", "call", "manifest", "recording", "untimed", "unknown_roles", "agent", "needs_audio"})


@positional_record
class NeededAudio:
    """What `needs_audio:` of a preset says: its recordings are nothing that Tuner could fetch."""

    what: str
    """`a file on the PBX`."""
    unless_set: str = ""
    """An environment variable that gives them URLs; empty: there is none."""


@positional_record
class Effective:
    """A source's rules with its preset's underneath."""

    call: Node | None
    manifest: Node | None
    recording: tuple[StrategyRule, ...]
    untimed: Literal["reject", "spread"]
    agent: Node | None
    gather: Node | None = None
    alone: bool = False
    """The source switches its preset's `gather:` off: each document is a whole call, of one part."""
    unknown_roles: Literal["reject", "drop", "agent"] = "reject"
    strict_call: bool = False
    """The preset's own `when:` and `not_call:` decide: what neither knows is refused."""
    strict_manifest: bool = False
    unwraps: bool = False
    """The document is looked for inside the common envelopes, too."""
    needs_audio: NeededAudio | None = None
    """None also where the source's own `manifest:` says where the recordings are."""
    problems: tuple[Problem, ...] = ()


def names() -> tuple[str, ...]:
    return tuple(
        sorted(file.name.removesuffix(".yaml") for file in resources.files(__name__).iterdir() if file.name.endswith(".yaml"))
    )


def text(name: str) -> str:
    """The YAML of a preset. Raises KeyError for an unknown name."""
    if name not in names():
        raise KeyError(name)
    return (resources.files(__name__) / f"{name}.yaml").read_text("utf-8")


def rules_text(name: str) -> str:
    """Its YAML as it can be copied into a source: without `needs_audio:`, which only presets have."""
    return "".join(line for line in text(name).splitlines(keepends=True) if not line.startswith("needs_audio:"))


@lru_cache(maxsize=64)
def load(name: str) -> dict[str, Node]:
    """The members of a preset. Raises KeyError for an unknown name."""
    members = parse_yaml(text(name), f"preset {name}").value
    if not isinstance(members, dict) or not members.keys() <= _MEMBERS:
        raise ValueError(f"preset {name} is no preset")
    return members


def effective(source: Source) -> Effective:
    """The source's own rules over those of its preset."""
    problems: list[Problem] = []
    preset: dict[str, Node] = {}
    if source.preset is not None:
        try:
            preset = load(source.preset)
        except KeyError:
            what = f"there is no such preset; there are: {', '.join(names())}"
            problems.append(Problem(location=YamlLocation("", 1, 1), path=f"sources.{source.name}.preset", message=what))
    untimed = source.untimed
    if untimed is None:
        untimed = "spread" if "untimed" in preset and preset["untimed"].value == "spread" else "reject"
    recording = source.recording
    if recording is None:
        recording = _strategies(preset["recording"]) if "recording" in preset else ()
    alone = source.gather is not None and source.gather.value is None and "gather" in preset
    return Effective(
        call=_over(source.call, preset.get("call")),
        manifest=_over(source.manifest, preset.get("manifest")),
        recording=recording,
        untimed=untimed,
        agent=source.agent or preset.get("agent"),
        gather=preset.get("gather") if alone else _over(source.gather, preset.get("gather")),
        alone=alone,
        unknown_roles=source.unknown_roles or _unknown_roles(preset, source.call),
        strict_call=_decides("when", preset.get("call"), source.call),
        strict_manifest=_decides("when", preset.get("manifest"), source.manifest),
        unwraps=bool(preset),
        needs_audio=_needed_audio(preset, source),
        problems=tuple(problems),
    )


def _needed_audio(preset: dict[str, Node], source: Source) -> NeededAudio | None:
    """`{what: text, unless: NAME}`: NAME is a `let` of the preset's manifest, whose rule reads an environment variable."""
    if "needs_audio" not in preset:
        return None
    said = _member(preset["needs_audio"])
    let = str(said["unless"].value) if "unless" in said else ""
    own = _member(source.manifest)
    if "url" in own or let in _member(own.get("let")):
        return None
    variable = _member(_member(preset.get("manifest")).get("let")).get(let)
    return NeededAudio(str(said["what"].value), str(variable.value).removeprefix("env.") if variable is not None else "")


def _member(node: Node | None) -> dict[str, Node]:
    return node.value if node is not None and isinstance(node.value, dict) else {}


def _strategies(node: Node) -> tuple[StrategyRule, ...]:
    """The strategies of a preset as it ships; loading/strategies.py checks them against the sources of a configuration."""
    found = [item.value for item in (node.value if isinstance(node.value, tuple) else ()) if isinstance(item.value, dict)]
    return tuple(_strategy(members) for members in found)


def _strategy(members: Mapping[str, Node]) -> StrategyRule:
    if "url" in members:
        return UrlRule(**members)
    parse = {"within": parse_within, "near": parse_seconds, "wait": parse_seconds, "settle": parse_seconds}
    given: dict[str, Any] = {f"{name}_s": parse_it(members[name].value) for name, parse_it in parse.items() if name in members}
    given |= {name: members[name].value for name in ("pick", "one_at_a_time") if name in members}
    if "file" in members:
        return FileRule(file=members["file"], **given)
    if "nearest" in members:
        return NearestRule(nearest=str(members["nearest"].value), same=members.get("same"), **given)
    return ManifestRule(manifest=str(members["manifest"].value), key=members["key"], **given)


def _unknown_roles(preset: dict[str, Node], own: Node | None) -> Literal["reject", "drop", "agent"]:
    """The preset's word, as long as the rows are made by the preset's rules."""
    told = preset["unknown_roles"].value if "unknown_roles" in preset else None
    return "drop" if told == "drop" and _decides(ROWS, preset.get("call"), own) else "reject"


def _decides(name: str, preset: Node | None, own: Node | None) -> bool:
    """Whether a member is the preset's, and not one of the source's own over it."""
    return preset is not None and not (own is not None and isinstance(own.value, dict) and name in own.value)


def _over(own: Node | None, preset: Node | None) -> Node | None:
    """A mapping over a mapping: field by field, `let` and `refuse` name by name. An own `when` decides alone, without the
    preset's `not_call`; an own `not_call` is asked before the preset's, and one that is true is enough."""
    if own is None or preset is None or not isinstance(own.value, dict) or not isinstance(preset.value, dict):
        return own if own is not None else preset
    members = dict(preset.value)
    if "when" in own.value:
        members.pop("not_call", None)
    for name, rule in own.value.items():
        below = members.get(name)
        if name in ("let", "refuse") and below is not None:
            members[name] = _named(rule, below)
        elif name == "not_call" and below is not None and rule.value is not None:
            members[name] = Node((rule, below), rule.location)
        else:
            members[name] = rule
    return Node(members, own.location, keys={**(preset.keys or {}), **(own.keys or {})})


def _named(own: Node, preset: Node) -> Node:
    """let runs top to bottom: an own name that the preset does not have runs just before the next one it replaces."""
    if not isinstance(own.value, dict) or not isinstance(preset.value, dict):
        return own
    before: dict[str, list[str]] = {}
    fresh: list[str] = []
    for name in own.value:
        if name in preset.value:
            before[name], fresh = fresh, []
        else:
            fresh.append(name)
    order = [each for name in preset.value for each in (*before.get(name, ()), name)] + fresh
    members = {name: own.value.get(name) or preset.value[name] for name in order}
    return Node(members, own.location, keys={**(preset.keys or {}), **(own.keys or {})})
