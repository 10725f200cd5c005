"""Which platform a file comes from: our own documents of each, and the real samples where they are at hand."""

from pathlib import Path
from typing import Final

import pytest

from tests.mapping.presets.golden import FIXTURES
from tests.mapping.sources import document
from tests.mapping.test_samples_table import LINES
from tests.real_parts import SAMPLES, needs_samples
from tests.workbench.made import call
from tunerd.intake.read_again import read_documents
from tunerd.mapping import presets
from tunerd.workbench.recognise import MARKS, recognise

OURS: Final = [
    (path.parent.name, path)
    for root in (FIXTURES, FIXTURES.parents[1] / "presets2" / "fixtures")
    for path in sorted(root.glob("*/*.json"))
    if not path.name.endswith(".expected.json")
]
OTHERS: Final = {"livekit/egress_webhook": "livekit-egress", "telnyx-recording/hangup": "telnyx"}
"""Fixtures of what a preset leaves out because it is another's."""
NO_PLATFORM: Final = ("vcon/simple-vcon.ietf.json", "pipecat/transcript_lines.example_format.txt")
"""A text and a subject, in no form that says vCon; a file that is no JSON."""
SAMPLE_LINES: Final = [
    (file, source) for files, source, _ in LINES for file in files if file not in NO_PLATFORM and not source.startswith("own/")
]


def recognised(path: Path) -> list[str]:
    return [match.preset for match in recognise(list(read_documents(str(path), source="any")), {})]


def test_every_preset_has_marks() -> None:
    """A preset that comes anew is recognised, or this says so."""
    assert set(MARKS) == set(presets.names())


def test_our_own_documents_of_each_platform() -> None:
    """By their marks, what the preset leaves out or refuses included."""
    for preset, path in OURS:
        assert recognised(path)[:1] == [OTHERS.get(f"{preset}/{path.stem}", preset)], path


@pytest.mark.samples
@needs_samples
@pytest.mark.parametrize(("file", "preset"), SAMPLE_LINES, ids=[file for file, _ in SAMPLE_LINES])
def test_every_platform_sample(file: str, preset: str) -> None:
    """Real shapes, not ours."""
    assert recognised(SAMPLES / file)[:1] == [preset]


@pytest.mark.samples
@needs_samples
@pytest.mark.parametrize("file", [file for files, source, _ in LINES for file in files if source.startswith("own/")])
def test_home_made_shapes_are_no_platforms(file: str) -> None:
    """A wrong preset is worse than none: it maps half."""
    assert recognised(SAMPLES / file) == []


def test_nothing_is_recognised_in_what_no_preset_knows() -> None:
    """Neither in a home-made call, nor in an empty object."""
    assert recognise([document(call())], {}) == []
    assert recognise([document({})], {}) == []
    assert recognise([], {}) == []
