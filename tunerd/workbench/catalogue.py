"""What a preset says of itself: where its documents come from, what it maps, what it lacks, and what it asks for."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from tunerd.config import Source
from tunerd.mapping import presets
from tunerd.record import record
from tunerd.workbench.shown import wrapped
from tunerd.yaml_location import Node

_HEAD: Final = re.compile(r"# (from|maps|lacks|audio): *(.*)")
_NAME: Final = 26


@record
class PresetInfo:
    name: str
    heads: Mapping[str, str]
    """from, maps, lacks, and of some audio: a paragraph each."""
    calls: bool
    recordings: bool
    gathers: bool
    has_strategies: bool
    """It knows where the recording of its calls is."""
    looks_in: tuple[str, ...]
    """Manifest sources that its calls look into."""
    environment: tuple[str, ...]
    """Environment variables that its rules read."""
    needs_audio: presets.NeededAudio | None = None
    """Its recordings are nothing that Tuner could fetch."""

    @property
    def in_short(self) -> str:
        """The first sentence of `from`, or its part that names the document."""
        first = re.split(r"[.:;] |, (?:saved|as|alone|one JSON) |[.]$", self.heads.get("from", ""), maxsplit=1)[0]
        if first.count("(") > first.count(")"):
            first = first[: first.rindex("(")].rstrip()
        return first if first[1:2].isupper() else first[:1].upper() + first[1:]


def preset_info(name: str) -> PresetInfo:
    """Raises KeyError for an unknown name."""
    text, members = presets.text(name), presets.load(name)
    listed = members["recording"].value if "recording" in members else ()
    strategies = [item.value for item in listed if isinstance(item.value, dict)] if isinstance(listed, tuple) else []
    return PresetInfo(
        name=name,
        heads=_heads(text),
        calls="call" in members,
        recordings="manifest" in members,
        gathers="gather" in members,
        has_strategies=bool(strategies),
        looks_in=tuple(dict.fromkeys(str(one["manifest"].value) for one in strategies if "manifest" in one)),
        needs_audio=presets.effective(Source(name=name, path="/", preset=name)).needs_audio,
        environment=tuple(sorted(set(_variables(Node(members, members[next(iter(members))].location))))),
    )


def _heads(text: str) -> dict[str, str]:
    """The comment at the top: `# from: ...`, `# maps: ...`, `# lacks: ...`, `# audio: ...`, each over several lines."""
    heads: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if found := _HEAD.match(line):
            current = found[1]
            heads[current] = [found[2]]
        elif current:
            heads[current].append(line.lstrip("# ").rstrip())
    return {head: " ".join(parts) for head, parts in heads.items()}


def _variables(node: Node) -> Iterator[str]:
    if isinstance(node.value, str):
        yield from re.findall(r"\benv[.]([A-Za-z_][A-Za-z0-9_]*)", node.value)
    elif isinstance(node.value, tuple):
        for item in node.value:
            yield from _variables(item)
    elif isinstance(node.value, dict):
        for item in node.value.values():
            yield from _variables(item)


def lines() -> Iterator[str]:
    """All presets, a line or two each."""
    entries = [preset_info(name) for name in presets.names()]
    for title, chosen in (("Calls", [one for one in entries if one.calls]),
                          ("Recordings", [one for one in entries if not one.calls])):  # fmt: skip
        yield title
        for one in chosen:
            gathers = "; gathers several documents for a call" if one.gathers else ""
            yield from wrapped(one.in_short + gathers, " " * (_NAME + 2), f"  {one.name:<{_NAME}}")
        yield ""
    yield "tunerd presets show NAME               its rules, and what the platform lacks"
    yield "tunerd explain --preset NAME FILE      what it makes of a file of yours"
