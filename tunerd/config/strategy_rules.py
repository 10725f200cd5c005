"""Strategies of `recording:` that name a location or look into a manifest source: each key declared once (settings.py). Pure."""

from typing import Annotated, Literal, TypeAlias

from tunerd.config.file_rule import FileRule
from tunerd.config.settings import DURATION, Seconds, Setting, ValueKind, any_of
from tunerd.config.text_forms import parse_within
from tunerd.record import record
from tunerd.yaml_location import Node


@record
class UrlRule:
    """Strategy `url:`: a rule over the call document."""

    url: Annotated[Node, Setting("Rule over the call's document: the URL of the audio.")]
    expires_at: Annotated[Node | None, Setting("Rule over the call's document: when that URL stops working.")] = None


@record
class ManifestRule:
    """Strategy `manifest:`: a recording that another source brings, by key."""

    manifest: Annotated[str, Setting("Name of the source that brings the recordings.")]
    key: Annotated[Node, Setting("Rule over the call's document: the key that its recording has, too.")]
    within_s: Annotated[
        float | None,
        ValueKind.OWN,
        Setting(
            "How far the start of the recording may be from the start of the call; `any` where recordings have no start.",
            name="within",
            default="10m",
            schema=any_of({"const": "any"}, *DURATION),
            parse=parse_within,
            takes="a duration like 10m, or any",
        ),
    ] = 600.0
    """None means `any`. It is not the default: rooms are reused, and a wrong match is worse than none."""
    near_s: Annotated[
        Seconds,
        Setting(
            "A recording that starts this close to the start of the call, or during the call, is taken at once; one that is "
            "farther away when both have been known for `wait` and nothing nearer came."
        ),
    ] = 30.0
    wait_s: Annotated[Seconds, Setting("How long the call may wait for this strategy to answer.")] = 30 * 60.0
    pick: Annotated[
        Literal["nearest", "first", "last", "longest"],
        Setting(
            "Which one is taken if several recordings belong to the call: the one that starts nearest to it, the first, the last "
            "or the longest. All but nearest are taken only after `wait`."
        ),
    ] = "nearest"


@record
class NearestRule:
    """The one recording of a manifest source that lies near the call in time."""

    nearest: Annotated[str, Setting("Name of the source that brings the recordings.")]
    within_s: Annotated[
        Seconds,
        Setting(
            "How far apart the call and its recording may start. It is taken only if no other call and no other recording is "
            "within this time of either."
        ),
    ]
    wait_s: Annotated[Seconds, Setting("How long both must be known before the recording is taken.")] = 30 * 60.0
    same: Annotated[
        Node | None,
        Setting(
            "{name: rule} over the call's document: values that the recording has, too; its manifest gives them under `match:`.",
            schema={"$ref": "#/$defs/match"},
        ),
    ] = None
    one_at_a_time: Annotated[
        bool, Setting("Instead of `same`: whatever these recordings belong to takes one call at a time.")
    ] = False


StrategyRule: TypeAlias = UrlRule | ManifestRule | NearestRule | FileRule
