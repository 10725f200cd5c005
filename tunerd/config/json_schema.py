"""The JSON Schema (2020-12) of the configuration as people write it, for editors and for `tunerd schema`. Pure.

The keys come from their declarations (models.py); the rule language is spelled out here, with the names of tuner_fields.py. The
schema checks structure; what needs two keys at once `tunerd check` reports.
"""

from collections.abc import Mapping
from typing import Any, Final

from tunerd.config.audio_settings import AudioSettings
from tunerd.config.file_rule import FileRule
from tunerd.config.models import SECTIONS, TopLevel, TunerSection
from tunerd.config.settings import DURATION, NULL, VARIABLE, Schema, any_of, keys_of
from tunerd.config.source_settings import Redact
from tunerd.config.strategy_rules import ManifestRule, NearestRule, UrlRule
from tunerd.config.verify_settings import VerifySettings
from tunerd.tuner_fields import CALL_FIELDS, NODE_FIELDS, RECORDING_FIELDS, ROW_FIELDS, RULE_FIELDS, TOOL_FIELDS, TunerField

_EXPRESSION: Final[Schema] = {"type": ["string", "null"]}
_RULE: Final[Schema] = {"$ref": "#/$defs/rule"}
_RULES: Final[Schema] = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z_][a-z0-9_]*$"},
    "additionalProperties": _RULE,
}
_NO_CALL: Final[Schema] = {
    "anyOf": [_RULE, {"type": "array", "items": _RULE}],
    "description": "A rule, or a list of which one has to be true: known to be no call. What is neither is refused.",
}
_EACH: Final[Schema] = {
    "for_each": {**_RULES, "maxProperties": 1, "minProperties": 1, "description": "{name: list}: once for each item."},
    "let": {**_RULES, "description": "Names for later rules, computed from top to bottom."},
    "when": {**_RULE, "description": "Only if this is true; null, false, empty text, [] and {} are not."},
}
_ROWS: Final[Schema] = {"type": "array", "description": "Blocks that give the rows, in order."}
_DECIDE: Final[Schema] = {
    "let": _EACH["let"],
    "when": _EACH["when"],
    "not_call": _NO_CALL,
    "refuse": {**_RULES, "description": "{reason: rule}: refuse where true."},
}


def config_schema(presets: tuple[str, ...]) -> dict[str, Any]:
    """The whole schema. `presets`: the names that `preset:` takes."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tunerd configuration",
        "type": "object",
        "properties": {
            **{name: {"description": section.about, **_section(name)} for name, section in SECTIONS.items()},
            **{name: key.schema() for name, key in keys_of(TopLevel).items()},
        },
        "required": ["sources"],
        "additionalProperties": False,
        "$defs": {
            "tuner": _object(TunerSection),
            "redact": _object(Redact),
            "publish": any_of({"enum": ["upload", "presign", "reject"]}, _closed({"url": _RULE}, "url")),
            "audio": any_of({"$ref": "#/$defs/publish"}, VARIABLE, NULL, _object(AudioSettings, "publish")),
            "verify": any_of({"enum": ["none", "get"]}, VARIABLE, NULL, _object(VerifySettings, "request")),
            "preset": any_of({"enum": list(presets)}, VARIABLE, NULL),
            "strategy": any_of(
                _object(UrlRule, "url"),
                _object(ManifestRule, "manifest", "key"),
                _object(NearestRule, "nearest", "within"),
                _object(FileRule, "file"),
            ),
            "recording": any_of({"type": "array", "items": {"$ref": "#/$defs/strategy"}}, {"$ref": "#/$defs/strategy"}, NULL),
            **_rule_definitions(),
            **_row_definitions(),
        },
    }


def _section(name: str) -> dict[str, Any]:
    model = SECTIONS[name].model
    if name == "tuner":
        return any_of({"$ref": "#/$defs/tuner"}, NULL)
    if name == "sources":
        source = _object(model, "name", "path")
        source["anyOf"] = [{"required": [key]} for key in ("preset", "call", "manifest")]
        return {"type": "array", "minItems": 1, "items": source}
    if name == "tests":
        example = _object(model, "name")
        example["oneOf"] = [{"required": ["input"]}, {"required": ["input_file"]}]
        example["anyOf"] = [{"required": [key]} for key in keys_of(model) if key.startswith("expect")]
        return {"type": ["array", "null"], "items": example}
    return {**_object(model), "type": ["object", "null"]}


def _object(model: type, *required: str) -> dict[str, Any]:
    return _closed({name: key.schema() for name, key in keys_of(model).items()}, *required)


def _closed(properties: Schema, *required: str) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, **needed, "additionalProperties": False}


def _fields(fields: Mapping[str, TunerField], **forms: str) -> Schema:
    """A rule for each name, or another definition where `forms` names one."""
    return {name: {"$ref": f"#/$defs/{forms.get(name, 'rule')}", "description": one.about} for name, one in fields.items()}


def _rule_definitions() -> dict[str, Schema]:
    """The rule language: one recursive definition a form. What an expression says is checked by `tunerd check`."""
    call = {name: field for name, field in CALL_FIELDS.items() if name in RULE_FIELDS}
    const, block = {"$ref": "#/$defs/const"}, {"$ref": "#/$defs/block"}
    gather = {
        "key": _RULE,
        "known": _RULE,
        "not_call": _NO_CALL,
        "parts": _RULES,
        "newest": _RULE,
        "complete": _RULE,
        "wait": {"anyOf": list(DURATION[:2])},
    }
    return {
        "rule": {
            "description": "An expression over doc, file and names of let; a number, true or false; null; a list: the first that "
            "is not missing; {const: value}; or a block.",
            "anyOf": [{"type": ["string", "number", "boolean", "null"]}, {"type": "array", "items": _RULE}, const, block],
        },
        "const": _closed({"const": {"description": "The value as it is written."}}, "const"),
        "block": {
            "type": "object",
            "not": {"required": ["const"]},
            "properties": {**_EACH, "rows": {**_ROWS, "items": block}},
            "additionalProperties": _RULE,
        },
        "call": _closed(_DECIDE | _fields(call, transcript_with_tool_calls="rows")),
        "manifest": _closed(_DECIDE | _fields(RECORDING_FIELDS, match="match")),
        "match": {**_RULES, "minProperties": 1},
        "gather": _closed(gather),
    }


def _row_definitions() -> dict[str, Schema]:
    """Rows, and the tool and the step of a flow in them: an expression, a list of alternatives, a constant, or a block."""

    def form(name: str, block: Schema) -> Schema:
        again = {"type": "array", "items": {"$ref": f"#/$defs/{name}"}}
        return {"anyOf": [_EXPRESSION, again, {"$ref": "#/$defs/const"}, block]}

    def block(members: Schema) -> Schema:
        return {"not": {"required": ["const"]}, **_closed(_EACH | members)}

    return {
        "rows": form("rows", {"$ref": "#/$defs/row"}),
        "row": block({**_fields(ROW_FIELDS, tool="tool", node="node"), "rows": {**_ROWS, "items": {"$ref": "#/$defs/row"}}}),
        "tool": form("tool", block(_fields(TOOL_FIELDS))),
        "node": form("node", block(_fields(NODE_FIELDS))),
    }
