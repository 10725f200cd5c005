"""What a preset makes of a document, whole and in plain JSON, to be compared with a file that a person has read.

fixtures/PRESET/VARIANT.json is a document, VARIANT.expected.json what becomes of it. After a change that is meant, write
the second ones anew and read the difference: `python -m tests.mapping.presets.golden [PRESET ...]`.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import orjson

from tunerd.call import Call, Document, Form, Hold, Mapped, Origin, Recording, Strategy, UrlStrategy
from tunerd.config import AudioSettings, Destination, Source
from tunerd.file_pattern import FILES
from tunerd.mapping import SourceMapping, compile_source
from tunerd.mapping.forms import freeze_body
from tunerd.mapping.manifest_facts import ManifestFacts

FIXTURES: Final = Path(__file__).parent / "fixtures"
STAND_IN: Final = "https://recordings.example.com/stand-in.wav"
"""In the place of a recording that another file brings, or nobody."""
WRITTEN_AT_MS: Final = 1_782_900_060_000
"""When every fixture was written, for presets that fall back to it: 2026-07-01 10:01:00 UTC."""
_MANIFESTS: Final = dict.fromkeys(("livekit-egress", "telnyx-recording", "elevenlabs-audio"), ManifestFacts())
_ENVIRON: Final = {
    "DAILY_RECORDINGS_URL": "https://daily.example.com/bucket/",
    "ASTERISK_RECORDINGS_URL": "https://pbx.example.com/monitor",
    "FREESWITCH_RECORDINGS_URL": "https://switch.example.com/recordings/",
}
ANYWHERE: Final = AudioSettings(publish="upload", files=("/",))
"""`audio:` of a source that takes every location: what a preset finds is compared, not what reaches Tuner."""
_DESTINATIONS: Final = {
    form: Destination(name="tuner", base_url="https://tuner.example", workspace_id=42, api=form.value) for form in Form
}


@dataclass(frozen=True, slots=True)
class Case:
    preset: str
    variant: str

    def __str__(self) -> str:
        return f"{self.preset}/{self.variant}"

    @property
    def document(self) -> Path:
        return FIXTURES / self.preset / f"{self.variant}.json"

    @property
    def expected(self) -> Path:
        return FIXTURES / self.preset / f"{self.variant}.expected.json"


def cases() -> list[Case]:
    found = (path for path in FIXTURES.glob("*/*.json") if not path.name.endswith(".expected.json"))
    return sorted((Case(path.parent.name, path.stem) for path in found), key=str)


@cache
def mapping_of(preset: str, form: Form) -> SourceMapping:
    source = Source(
        name="calls",
        path="/calls",
        preset=preset,
        agent_remote_identifier="support-bot",
        on_missing=Hold(hold_s=60.0),
        audio=ANYWHERE,
    )
    return compile_source(source, _DESTINATIONS[form], manifests=_MANIFESTS, environ=_ENVIRON)


def map_file(preset: str, form: Form, file: Path, raw: bytes | None = None) -> Mapped:
    """`raw`: one document of the file, where it is not the whole."""
    content = file.read_bytes() if raw is None else raw
    origin = Origin(source="calls", path=f"/calls/{file.name}", length=len(content), mtime_ns=WRITTEN_AT_MS * 1_000_000)
    document = Document(origin=origin, raw=content, value=orjson.loads(content), settled_at=1.0)
    mapping = mapping_of(preset, form)
    mapped = mapping.map(document)
    if mapped.fragment is None:
        return mapped
    return mapping.gather(None, [mapped.fragment]) or Mapped()  # nothing more came of its call


def body_of(call: Call, form: Form) -> dict[str, Any]:
    """The body to post, with the URL of the first strategy that has one, else the stand-in."""
    locations = [strategy.location or "" for strategy in call.strategies if isinstance(strategy, UrlStrategy)]
    url = next((location for location in locations if location.startswith("http")), STAND_IN)
    body = freeze_body(call.payload, url, call.checked_for, form)
    assert isinstance(body, bytes), body
    read: dict[str, Any] = orjson.loads(body)
    return read


def told(mapped: Mapped) -> dict[str, Any]:
    """The outcome in plain JSON, for create-call."""
    made: dict[str, Any] = {}
    if mapped.recording is not None:
        made["recording"] = _recording(mapped.recording)
    if mapped.refused is not None:
        refusal = mapped.refused.refusal
        where = re.sub(r" \(.*", "", refusal.where)
        made["refused"] = {"reason": refusal.reason.value, "where": where, "what": refusal.what}
    if mapped.ignored is not None:
        made["ignored"] = True
    if mapped.call is not None:
        made["strategies"] = [_strategy(strategy) for strategy in mapped.call.strategies]
        made["body"] = body_of(mapped.call, Form.CREATE_CALL)
    if mapped.notes.left_out:
        made["left_out"] = list(mapped.notes.left_out)
    if mapped.notes.repairs:
        made["repairs"] = dict(mapped.notes.repairs)
    return made


def _recording(recording: Recording) -> dict[str, Any]:
    names = {"key": "key", "url": "location", "started_at": "started_at", "duration_s": "duration_s", "expires_at": "expires_at"}
    return {name: value for name, field in names.items() if (value := getattr(recording, field)) is not None}


def _strategy(strategy: Strategy) -> dict[str, Any]:
    made: Mapping[str, Any]
    if isinstance(strategy, UrlStrategy):
        made = {"url": strategy.location, "expires_at": strategy.expires_at}
    elif strategy.source == FILES:
        made = {"file": strategy.key, "wait_s": strategy.wait_s}
    else:
        within = "any" if strategy.within_s is None else strategy.within_s
        made = {"manifest": strategy.source, "key": strategy.key, "within": within, "wait_s": strategy.wait_s}
    return {name: value for name, value in made.items() if value is not None}


def main(presets: Sequence[str]) -> None:
    for case in cases():
        if presets and case.preset not in presets:
            continue
        made = told(map_file(case.preset, Form.CREATE_CALL, case.document))
        case.expected.write_bytes(orjson.dumps(made, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        print(case)


if __name__ == "__main__":
    main(sys.argv[1:])
