"""Whatever JSON is looked at: something is proposed that compiles, or nothing is."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.examples import examples
from tests.mapping.sources import document
from tunerd.loading.config_file import read_text
from tunerd.workbench.compiled import compile_config
from tunerd.workbench.evaluation import evaluate, units
from tunerd.workbench.file_groups import SampleFile
from tunerd.workbench.recognise import recognise
from tunerd.workbench.starter import starter

NAMES = st.sampled_from(
    ["id", "call_id", "room", "start", "ended_at", "duration", "messages", "turns", "role", "speaker", "text", "content", "timestamp",
     "url", "recording_url", "data", "call", "tool_calls", "function", "name", "arguments", "from", "cost", "sentiment", "a b", "é", "",
     "type", "event", "metadata", "true", "0", 'q"uote', "it's", "\\", "#x", "k: v"]
)  # fmt: skip
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 2_000_000_000_000), st.floats(0, 1e6), st.text(max_size=6),
    st.sampled_from(["agent", "user", "Bot: a\nMe: b", "2026-07-01T10:00:00Z", "1782900000", "https://a.example/x.wav", "1.5s", "+15550100"]),
)  # fmt: skip
JSON = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=25)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(NAMES, JSON, max_size=6), min_size=1, max_size=3), st.booleans())
def test_what_is_written_is_a_configuration(values: list[dict[str, Any]], one_file: bool) -> None:
    """Odd names and values go into rules and comments; the reader and the rules take what comes out."""
    reads = [document(value, f"/calls/{at}.json", offset=at) for at, value in enumerate(values)]
    files = (
        [SampleFile("/calls/all.json", reads)]
        if one_file
        else [SampleFile(f"/calls/{at}.json", [one]) for at, one in enumerate(reads)]
    )
    made = starter(files, {})
    if "- name:" not in made.text:
        return
    reading = read_text(made.text, "/etc/config.yaml", {"TUNER_API_KEY": "made-up"})
    assert reading.problems == (), made.text
    for compiled in compile_config(reading.config, {}, {}).values():
        for unit in units(compiled, reads):
            evaluate(compiled, unit)


@settings(max_examples=examples(40), deadline=None)
@given(JSON)
def test_no_mark_fails_on_any_value(value: Any) -> None:
    """A mark over a value of the wrong kind is no mark."""
    recognise([document(value)], {})
