"""`file:` of `recording:`: the name of a recording file, in which values of documents stand for nothing but themselves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.mapping.sources import call_of, compiled, document, problems_of, strategy
from tunerd.call import Choice, ManifestStrategy, UrlStrategy
from tunerd.config import AudioSettings, Source
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.file_pattern import FILES, FilePattern
from tunerd.mapping import manifest_sources
from tunerd.mapping.file_names import wrong_pattern
from tunerd.mapping.source import SourceMapping

CALL = """
call:
  call_id: doc.id
  call_type: {const: phone_call}
  start_timestamp: 1782900000000
  end_timestamp: 1782900060000
  transcript_with_tool_calls: {for_each: {m: doc.said}, role: {const: user}, text: m, start_ms: 0}
"""


def source(rule: str, *more: str) -> SourceMapping:
    keys = ", ".join([f'file: "{rule}"', *more])
    return compiled(f"{CALL}recording:\n  - {{{keys}}}\n", audio=AudioSettings(publish="upload"))


def named(mapping: SourceMapping, **doc: Any) -> ManifestStrategy:
    (strategy,) = call_of(mapping, {"id": "c1", "said": ["x"], **doc}).strategies
    assert isinstance(strategy, ManifestStrategy)
    return strategy


def refusal(mapping: SourceMapping, **doc: Any) -> str:
    refused = mapping.map(document({"id": "c1", "said": ["x"], **doc})).refused
    assert refused is not None
    return f"{refused.refusal.where}: {refused.refusal.what}"


def test_a_name_of_the_calls_id() -> None:
    """What the call looks for is the absolute name below `in:`, without a window in time."""
    strategy = named(source("concat(doc.id, '.wav')", "in: /var/rec", "wait: 60"))
    assert strategy == ManifestStrategy(source=FILES, key="/var/rec/c1.wav", within_s=None, wait_s=60.0, near_s=0.0)
    assert named(source("concat('day/', doc.id, '*.wav')")).key == "/calls/day/c1*.wav"


def test_the_directories_are_among_those_that_may_be_read() -> None:
    """The plan that a call carries names the directory of `in:`, so that whoever uploads the file may open it."""
    audio = call_of(source("concat(doc.id, '.wav')", "in: /var/rec"), {"id": "c1", "said": ["x"]}).audio
    assert audio is not None
    assert audio.files == ("/var/rec",)


def test_a_location_may_lie_in_the_directory_of_a_file_strategy() -> None:
    """A path that the document or a manifest names may be below `in:`, as below `audio.files`; nowhere else."""
    calls = f"{CALL}recording:\n  - {{url: doc.path}}\n  - {{file: \"concat(doc.id, '.wav')\", in: /var/rec}}\n"
    mapping = compiled(calls, audio=AudioSettings(publish="upload", files=("/more",)))
    for directory in ("/var/rec", "/more"):
        first, _ = call_of(mapping, {"id": "c1", "said": ["x"], "path": f"{directory}/a.wav"}).strategies
        assert isinstance(first, UrlStrategy)
        assert first.location == f"file://{directory}/a.wav"
    outside = refusal(mapping, path="/var/recordings/a.wav")
    assert "of `audio.files`" in outside
    assert "below `in:`" in outside
    rules = parse_yaml("[{file: doc.id, in: /var/rec}, {manifest: brings, key: doc.id}]", "config.yaml").value
    assert isinstance(rules, tuple)
    asks = Source(
        name="agent", path="/calls", audio=AudioSettings(publish="upload"), recording=tuple(strategy(rule) for rule in rules)
    )
    brings = Source(name="brings", path="/b", manifest=parse_yaml("{key: doc.id, url: doc.path}", "config.yaml"))
    facts = manifest_sources([asks, brings])
    assert facts["brings"].places.parse("/var/rec/a.wav").text == "file:///var/rec/a.wav"


@pytest.mark.parametrize("value", ["*", "c?", "[a-z]*", "c[*]1"])
def test_values_of_documents_stand_for_themselves(value: str) -> None:
    """An id of `*` matches the file `*.wav`, and no other."""
    key = named(source("concat(doc.id, '.wav')"), id=value).key
    pattern = FilePattern.parse(str(key))
    assert pattern.is_literal
    assert pattern.matches(f"/calls/{value}.wav")
    assert not pattern.matches("/calls/c1.wav")


@given(st.text(min_size=1))
def test_no_value_leaves_the_directory(value: str) -> None:
    """Whatever an id is, the call is refused, or looks for one name directly in the directory that has the id in it."""
    mapped = source("concat(doc.id, '-*.wav')").map(document({"id": value, "said": ["x"]}))
    if mapped.call is None:
        assert mapped.refused is not None
        return
    (strategy,) = mapped.call.strategies
    assert isinstance(strategy, ManifestStrategy)
    if strategy.key is not None:
        pattern = FilePattern.parse(strategy.key)
        assert pattern.directory == "/calls"
        assert pattern.matches(f"/calls/{value.strip()}-1.wav")
        assert not pattern.matches(f"/calls/x{value.strip()}-1.wav")


@pytest.mark.parametrize(
    ("rule", "doc", "words"),
    [
        ("concat(doc.id, '.wav')", {"id": "../x"}, "a value with /"),
        ("concat(doc.id, '.wav')", {"id": "/etc/passwd"}, "a value with /"),
        ("concat(doc.id, '-', doc.n, '.wav')", {"n": ""}, "an empty value"),
        ("concat(doc.id, '-', doc.n, '.wav')", {"n": "  "}, "an empty value"),
        ("concat(doc.n, '/', doc.id)", {"n": ".."}, "a name of dots"),
        ("concat(doc.id, doc.n)", {"n": "a\u0007"}, "a control character"),
        ("concat(doc.id, doc.n)", {"n": "a" * 300}, "too long"),
        ("concat(doc.room, '.wav')", {"room": "r1"}, "not made of the call's own id"),
        ("concat(doc.room, '.wav')", {"room": "c12"}, "not made of the call's own id"),
    ],
)
def test_names_that_are_refused(rule: str, doc: dict[str, Any], words: str) -> None:
    """A value that could lead elsewhere, an empty one, and a name that another call may have, are refused with the rule's place."""
    said = refusal(source(rule), **doc)
    assert said.startswith("recording[0].file (line ")
    assert words in said


def test_a_name_that_is_missing_is_absent() -> None:
    """A rule that gives nothing looks for nothing; the call is taken."""
    assert named(source("concat(doc.recording, '.wav')")).key is None


@pytest.mark.parametrize(("rule", "doc"), [("concat(doc.room, '.wav')", {"room": "r1"}), ("'*.wav'", {})])
def test_names_of_several_calls_need_a_window(rule: str, doc: dict[str, Any]) -> None:
    """With `within:` the times decide whose file it is: it has to be the only one, and the call the only call."""
    strategy = named(source(rule, "within: 30"), **doc)
    assert (strategy.within_s, strategy.choice) == (30.0, Choice.ONLY)
    assert strategy.looks_for == f"key {strategy.key}"


@pytest.mark.parametrize("value", ["c1", "call-c1-x", "rec_c1"])
def test_the_id_may_stand_among_other_signs(value: str) -> None:
    """A value that has the id in it, between other signs, makes the name the call's own."""
    assert named(source("concat(doc.name, '.wav')"), name=value).key == f"/calls/{value}.wav"


def test_wrong_literal_text_is_found_at_load() -> None:
    """A name that begins with / or has `..` in it, and one that is the same for all calls, are problems of the configuration."""
    for rule, words in [("concat('/a/', doc.id)", "begins with /"), ("concat('../', doc.id)", "`..`"), ("'a.wav'", "same name")]:
        problems = problems_of(f'{CALL}recording:\n  - {{file: "{rule}"}}\n', audio=AudioSettings(publish="upload"))
        assert [words in problem for problem in problems] == [True]


@pytest.mark.parametrize(
    ("pieces", "is_wrong"),
    [(["[", "]"], True), (["x[", "a]"], True), (["x[ab]", "-*.wav"], False), (["[!]a]", "[[]"], False), (["a]"], False)],
)
def test_a_value_never_stands_between_brackets(pieces: list[str], is_wrong: bool) -> None:
    """An id between `[` and `]` of two texts would stand for one of its characters, and find the file of another call."""
    wrong = wrong_pattern(pieces)
    assert (wrong is not None and "without `]`" in wrong) == is_wrong
