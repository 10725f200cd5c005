"""What a strategy has to know of the source that brings its recordings, and that source of the strategies. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from tunerd.config import FileRule, ManifestRule, NearestRule, Source, StrategyRule
from tunerd.location import URLS, LocationPolicy
from tunerd.mapping import presets
from tunerd.mapping.match_values import names_in
from tunerd.record import record
from tunerd.yaml_location import Node


@record
class ManifestFacts:
    """Of one source that brings recordings."""

    has_key: bool = True
    has_start: bool = True
    has_duration: bool = True
    match: frozenset[str] = frozenset()
    """Names of the values that its recordings have in common with their calls."""
    is_nearest: bool = False
    """A strategy `nearest:` looks for its recordings, so they need no key."""
    places: LocationPolicy = URLS
    """Where its recordings may be: where a source may have them whose strategies look for them."""


def places_of(source: Source, recording: Sequence[StrategyRule]) -> LocationPolicy:
    """Where recordings of its calls may be: its strategies `file` name directories, too."""
    named = [rule.directory or source.path for rule in recording if isinstance(rule, FileRule)]
    return replace(source.audio.places(), files=tuple(dict.fromkeys([*source.audio.files, *named])))


def manifest_sources(sources: Iterable[Source]) -> dict[str, ManifestFacts]:
    """Name of each source that brings recordings -> what is known of it."""
    effective = [(source, presets.effective(source)) for source in sources]
    found: dict[str, ManifestFacts] = {}
    for source, rules in effective:
        if rules.manifest is None:
            continue
        members = rules.manifest.value if isinstance(rules.manifest.value, dict) else {}
        named = [(other, rule) for other, its in effective for rule in its.recording if _looks_into(rule, source.name)]
        found[source.name] = ManifestFacts(
            has_key=_has(members, "key"),
            has_start=_has(members, "started_at"),
            has_duration=_has(members, "duration_ms"),
            match=names_in(members.get("match")) or frozenset(),
            is_nearest=any(isinstance(rule, NearestRule) for _, rule in named),
            places=LocationPolicy.any_of(places_of(other, presets.effective(other).recording) for other, _ in named),
        )
    return found


def _looks_into(rule: object, name: str) -> bool:
    return (isinstance(rule, ManifestRule) and rule.manifest == name) or (isinstance(rule, NearestRule) and rule.nearest == name)


def _has(members: Mapping[str, Node], name: str) -> bool:
    return name in members and members[name].value is not None
