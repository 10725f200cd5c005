"""The JSON Schema agrees with the reader: good configurations pass it, structurally wrong ones do not."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tunerd.config import Source
from tunerd.config.json_schema import config_schema
from tunerd.config.models import SECTIONS, TopLevel
from tunerd.config.quantities import parse_duration, parse_size
from tunerd.config.settings import keys_of
from tunerd.config.yaml_nodes import parse_yaml
from tunerd.loading.config_file import load_text
from tunerd.loading.rule_checks import check_file
from tunerd.mapping import presets
from tunerd.tuner_fields import NODE_FIELDS, RECORDING_FIELDS, ROW_FIELDS, RULE_FIELDS, TOOL_FIELDS

ROOT = Path(__file__).parent.parent.parent
SCHEMA = config_schema(presets.names())
EXAMPLE = (ROOT / "config.example.yaml").read_text()

# Wrong in a way that structure alone cannot show: two keys that do not fit, an unset variable, a file that is not there.
BEYOND_STRUCTURE = {
    "audio_of_a_preset", "audio_of_a_preset_of_recordings", "file_that_is_rejected", "file_in_everything", "embedded_that_is_rejected",
    "audio_expires_too_long", "audio_files_of_everything", "audio_upload_with_send_calls", "audio_without_calls",
    "absolute_pattern", "admin_listen_is_a_url", "admin_listen_without_token", "bad_source_name", "base_url_bad_port", "base_url_with_password",
    "base_url_with_path_of_the_api", "base_url_with_query", "base_url_without_host", "base_url_without_scheme",
    "destination_name_is_a_url", "destination_name_taken", "destination_name_without_workspace", "destination_named_removed",
    "destination_with_two_names", "ca_file_missing", "ca_file_without_certificates", "duplicate_source", "hold_for_without_hold", "http_hosts_with_port",
    "instance", "key_with_spaces", "ledger_directory", "ledger_postgres_odd_password", "ledger_postgres_without_database", "ledger_with_query", "listen_bad_port", "listen_is_a_url",
    "manifest_of_recordings_without_key", "nearest_of_no_source", "nearest_of_other_values", "nearest_with_both",
    "nearest_without_same", "nearest_without_start", "pick_longest_without_duration", "manifest_without_start", "manifest_without_start_or_within", "move_to_itself", "no_agent", "no_key",
    "no_recording", "recording_empty", "recording_empty_over_a_preset", "no_workspace", "path_groups_no_regex", "path_groups_without_names", "path_is_a_file",
    "recording_without_calls", "redact_bad_pattern", "redact_look_around", "redact_empty_pattern", "redact_taken_name",
    "redact_unknown_field", "redact_needed_field", "redact_role", "redact_recording_url", "redact_by_number", "redact_no_path",
    "redact_with_gather", "redact_without_calls", "send_is_no_url", "settle_longer_than_its_timeout", "source_without_recordings",
    "tests_of_an_unknown_source", "tests_with_a_bad_expression", "tests_with_keys_of_no_source", "tests_with_one_name",
    "tests_with_text_that_is_no_json", "tests_ignored_with_fields", "tests_with_an_outer_file",
    "two_keys", "unknown_manifest_source", "unknown_timezone", "variable_in_a_number", "variable_misspelt",
    "variable_not_set", "zero_timeout", "verify_bad_allow", "verify_without_calls", "audio_after_upload_without_upload",
}  # fmt: skip

GOOD = [ROOT / "config.example.yaml", *sorted((Path(__file__).parent / "good").glob("*.yaml"))]


def plain(text: str) -> Any:
    return parse_yaml(text, "f").bare()


@pytest.fixture(scope="module")
def validator() -> Any:
    """Imported here and not above: the import takes seconds, in each process that collects the tests."""
    from jsonschema import Draft202012Validator

    return Draft202012Validator(SCHEMA)


def test_the_schema_is_one(validator: Any) -> None:
    """It is valid by the specification's own schema."""
    validator.check_schema(SCHEMA)


@pytest.mark.parametrize("file", GOOD, ids=lambda file: file.stem)
def test_good_configurations_pass_reader_rules_and_schema(file: Path, validator: Any) -> None:
    """What `tunerd check` takes, the schema takes."""
    check_file(file, {"TUNER_API_KEY": "made-up", "WS": "4"})
    assert [error.message for error in validator.iter_errors(plain(file.read_text()))] == []


STRUCTURAL = [
    path
    for path in sorted((ROOT / "tests" / "bad_configs").glob("*.yaml"))
    if path.stem not in BEYOND_STRUCTURE and not path.stem.startswith(("yaml_", "duplicate_key", "empty"))
]


@pytest.mark.parametrize("file", STRUCTURAL, ids=lambda file: file.stem)
def test_structurally_wrong_ones_fail_the_schema(file: Path, validator: Any) -> None:
    """An editor marks the same mistakes, as far as one key at a time can show them."""
    assert not validator.is_valid(plain(file.read_text()))


@pytest.mark.parametrize("stem", sorted(BEYOND_STRUCTURE))
def test_the_list_of_exceptions_is_true(stem: str, validator: Any) -> None:
    """Each exception is a file, and the schema really cannot see what is wrong in it."""
    assert validator.is_valid(plain((ROOT / "tests" / "bad_configs" / f"{stem}.yaml").read_text()))


WRONG = {
    "a field": "call: {call_idd: doc.a}",
    "a row's member": "call: {transcript_with_tool_calls: {for_each: {m: doc.a}, role: m.r, content: m.t}}",
    "a row's member, further in": "call: {transcript_with_tool_calls: [{rows: [{for_each: {m: doc.a}, rol: m.r}]}]}",
    "a tool's member": "call: {transcript_with_tool_calls: {role: doc.r, tool: {nam: doc.n}}}",
    "a node's member": "call: {transcript_with_tool_calls: {role: doc.r, node: {too: doc.n}}}",
    "a manifest's field": "manifest: {key: doc.a, link: doc.b}",
    "gather's member": "gather: {kee: doc.a, wait: 1m}",
}


@pytest.mark.parametrize("what", WRONG)
def test_misspelt_names_in_rules_fail_the_schema(what: str, validator: Any) -> None:
    """An editor marks a name that no rule can have, at every depth."""
    assert not validator.is_valid({"sources": [{"name": "a", "path": "p", **plain(WRONG[what])}]})


def test_the_schema_knows_the_names_that_the_rules_know() -> None:
    """No more, no less: what one accepts the other does not refuse."""
    words = {"let", "when", "not_call", "refuse", "for_each", "rows"}

    def names(definition: str) -> set[str]:
        shape = SCHEMA["$defs"][definition]
        return set((shape if "properties" in shape else shape["anyOf"][-1])["properties"]) - words

    assert names("call") == RULE_FIELDS
    assert names("manifest") == RECORDING_FIELDS.keys()
    assert names("row") == ROW_FIELDS.keys()
    assert names("tool") == TOOL_FIELDS.keys()
    assert names("node") == NODE_FIELDS.keys()


@pytest.mark.parametrize("preset", presets.names())
def test_the_rules_of_every_preset_pass_the_schema(preset: str, validator: Any) -> None:
    """They use the whole language, and can be copied into a configuration."""
    source = {"name": "a", "path": "p", **plain(presets.rules_text(preset))}
    assert [error.message for error in validator.iter_errors({"sources": [source]})] == []


def test_every_key_is_described() -> None:
    """An editor shows a sentence for each key."""
    assert SCHEMA["properties"].keys() == SECTIONS.keys() | keys_of(TopLevel).keys()
    for name, section in SECTIONS.items():
        shape = SCHEMA["properties"][name]
        shape = SCHEMA["$defs"]["tuner"] if name == "tuner" else shape.get("items", shape)
        assert shape["properties"].keys() == keys_of(section.model).keys()
        assert all(len(member["description"]) > 10 for member in shape["properties"].values())


def test_defaults_are_written_as_one_would_write_them() -> None:
    """Durations and sizes with their unit, and they mean the model's default."""
    delivery, ledger = SCHEMA["properties"]["delivery"]["properties"], SCHEMA["properties"]["ledger"]["properties"]
    assert delivery["timeout"]["default"] == "30s"
    assert ledger["max_pending_bytes"]["default"] == "1GiB"
    assert parse_duration(ledger["keep_failed"]["default"]) == 90 * 86_400
    assert parse_size(ledger["min_free"]["default"]) == 64 * 1024**2


def test_the_example_shows_every_key_with_its_default() -> None:
    """config.example.yaml has each key (some commented out), and what it shows in the plain sections are the defaults."""
    words = {line.strip().lstrip("#- ").split(":")[0] for line in EXAMPLE.splitlines()}
    for name, section in SECTIONS.items():
        assert name == "tests" or keys_of(section.model).keys() - words <= {"api_key", "gather"}
    assert keys_of(TopLevel).keys() <= words
    shown = load_text(EXAMPLE, "/etc/tunerd/config.yaml", {})
    least = load_text("sources:\n  - {name: e, path: p, preset: livekit-egress}\n", "/etc/tunerd/config.yaml", {})
    assert (shown.delivery, shown.ledger, shown.http, shown.log) == (least.delivery, least.ledger, least.http, least.log)
    mine = {"name", "path", "call", "recording", "destination", "agent_remote_identifier", "preset"}
    for field in fields(Source):
        assert field.name in mine or getattr(shown.sources[0], field.name) == getattr(least.sources[0], field.name)
