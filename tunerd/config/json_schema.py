"""The JSON Schema (2020-12) of the configuration as people write it, for editors and for `tunerd schema`. Pure.

Keys, bounds, defaults and descriptions come from keys.py and the models; only the forms of the rules and of the
few keys of kind FORM are spelled out here, with the names of rule_words.py. The schema checks structure; what needs two
keys at once `tunerd check` tells.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tunerd.config.keys import (
    EXAMPLE,
    MANIFEST_STRATEGY,
    REDACT,
    SECTIONS,
    SOURCE,
    TOP,
    TUNER,
    URL_STRATEGY,
    Bounds,
    Key,
    Kind,
    Section,
)
from tunerd.config.models import REFUSALS
from tunerd.config.quantities import DURATION_PATTERN, SIZE_PATTERN, duration_text, size_text
from tunerd.config.rule_words import CALL_FIELDS, MANIFEST_FIELDS, NODE_MEMBERS, ROW_MEMBERS, TOOL_MEMBERS

Schema: TypeAlias = dict[str, Any]

_VARIABLE: Final[Schema] = {"type": "string", "pattern": r"\$\{", "description": "${NAME} or ${NAME:-default}"}
_DURATION: Final[Schema] = {"anyOf": [{"type": "string", "pattern": DURATION_PATTERN}, {"type": "number", "minimum": 0}]}
_SIZE: Final[Schema] = {"anyOf": [{"type": "string", "pattern": SIZE_PATTERN}, {"type": "integer", "minimum": 0}]}
_DETECTOR: Final[Schema] = {"enum": ["card", "email", "phone", "iban"]}
_EXPRESSION: Final[Schema] = {"type": ["string", "null"]}
_NAME: Final = "^[a-z_][a-z0-9_]*$"


def config_schema(presets: tuple[str, ...]) -> Schema:
    """The whole schema. `presets`: the names that `preset:` takes."""
    forms = _forms(presets)
    properties: Schema = {
        name: {"description": about, **_top(name, forms)} for name, about in TOP.items()
    }  # fmt: skip
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tunerd configuration",
        "type": "object",
        "properties": properties,
        "required": ["sources"],
        "additionalProperties": False,
        "$defs": {**_rule_definitions(), "tuner": _object(TUNER, forms), "redact": _object(REDACT, forms)},
    }


def _top(name: str, forms: dict[tuple[str, str], Schema]) -> Schema:
    if name == "tuner":
        return {"anyOf": [{"$ref": "#/$defs/tuner"}, {"type": "null"}]}
    if name == "sources":
        source = _object(SOURCE, forms)
        source["required"] = ["name", "path"]
        source["anyOf"] = [{"required": [key]} for key in ("preset", "call", "manifest")]
        return {"type": "array", "minItems": 1, "items": source}
    if name == "tests":
        return {"type": ["array", "null"], "items": _example(forms)}
    schema = _object(SECTIONS[name], forms)
    schema["type"] = ["object", "null"]
    return schema


def _example(forms: dict[tuple[str, str], Schema]) -> Schema:
    example = _object(EXAMPLE, forms)
    example["required"] = ["name"]
    example["oneOf"] = [{"required": ["input"]}, {"required": ["input_file"]}]
    example["anyOf"] = [{"required": [name]} for name in example["properties"] if name.startswith("expect")]
    return example


def _object(section: Section, forms: dict[tuple[str, str], Schema]) -> Schema:
    properties: Schema = {}
    for key in section.keys:
        bounds = section.bounds(key)
        form = forms.get((section.model.__name__, key.name))
        properties[key.name] = {"description": key.about, **(form or _value(key, bounds))}
        if (default := default_text(key, bounds)) is not None:
            properties[key.name]["default"] = default
    return {"type": "object", "properties": properties, "additionalProperties": False}


def default_text(key: Key, bounds: Bounds) -> object:
    """The default as it would be written; None where there is none."""
    if key.default is not None:
        return None if key.default == "null" else key.default
    if key.kind is Kind.DURATION and bounds.default is not None:
        return duration_text(bounds.default)
    if key.kind is Kind.SIZE and bounds.default is not None:
        return size_text(bounds.default)
    if isinstance(bounds.default, tuple):
        return list(bounds.default)
    return bounds.default if isinstance(bounds.default, str | int | float | bool) else None


def _value(key: Key, bounds: Bounds) -> Schema:
    choices: list[Schema]
    match key.kind:
        case Kind.TEXT | Kind.SECRET:
            choices = [{"type": "string", "minLength": 1}]
        case Kind.INTEGER | Kind.NUMBER:
            choices = [{"type": key.kind.value, **_limits(bounds)}, _VARIABLE]
        case Kind.SWITCH:
            choices = [{"type": "boolean"}, _VARIABLE]
        case Kind.CHOICE:
            choices = [{"enum": list(bounds.choices)}, _VARIABLE]
        case Kind.DURATION:
            choices = [*_DURATION["anyOf"], _VARIABLE]
        case Kind.SIZE:
            choices = [*_SIZE["anyOf"], _VARIABLE]
        case Kind.TEXTS:
            text = {"type": "string", "minLength": 1}
            choices = [text, {"type": "array", "items": text}]
        case Kind.RULE | Kind.FORM:
            choices = [{"$ref": "#/$defs/rule"}]
    if bounds.nullable and key.kind is not Kind.RULE:
        choices.append({"type": "null"})
    return choices[0] if len(choices) == 1 else {"anyOf": choices}


def _limits(bounds: Bounds) -> Schema:
    given = {"minimum": bounds.low, "exclusiveMinimum": bounds.above, "maximum": bounds.high, "exclusiveMaximum": bounds.below}
    return {name: value for name, value in given.items() if value is not None}


def _forms(presets: tuple[str, ...]) -> dict[tuple[str, str], Schema]:
    """The schemas of what the table cannot say, by model and key."""
    text: Schema = {"type": "string", "minLength": 1}
    duration: Schema = {"anyOf": [*_DURATION["anyOf"], _VARIABLE]}
    forms: dict[tuple[str, str], Schema] = {
        ("ManifestRule", "within"): {"anyOf": [{"const": "any"}, *duration["anyOf"]]},
        ("Source", "hold_for"): duration,
        ("Source", "preset"): {"anyOf": [{"enum": list(presets)}, _VARIABLE, {"type": "null"}]},
        ("Source", "tuner"): {"anyOf": [{"$ref": "#/$defs/tuner"}, {"type": "null"}]},
        ("Source", "redact"): {"anyOf": [{"$ref": "#/$defs/redact"}, {"type": "null"}]},
        ("Redact", "detect"): {"anyOf": [_DETECTOR, {"type": "array", "items": _DETECTOR}]},
        ("Redact", "patterns"): {
            "type": ["object", "null"],
            "propertyNames": {"pattern": "^[a-z][a-z_-]{0,30}$"},
            "additionalProperties": text,
        },
        ("Source", "after_sent"): {"anyOf": [{"enum": ["keep", "delete"]}, _closed({"move_to": text}, "move_to"), _VARIABLE]},
        ("Source", "on_missing"): {"anyOf": [{"enum": ["hold", "fail"]}, _closed({"send": text}, "send"), _VARIABLE]},
        ("Source", "call"): {"anyOf": [{"$ref": "#/$defs/call"}, {"type": "null"}]},
        ("Source", "manifest"): {"anyOf": [{"$ref": "#/$defs/manifest"}, {"type": "null"}]},
        ("Source", "gather"): {"anyOf": [{"$ref": "#/$defs/gather"}, {"type": "null"}]},
        ("LedgerConfig", "url"): {"anyOf": [{"type": "string", "pattern": "^sqlite:///"}, _VARIABLE]},
        ("Http", "listen"): {"anyOf": [{"type": "string"}, {"type": "null"}]},
    }
    expected: Schema = {"type": "object", "minProperties": 1}
    forms |= {
        ("Example", "input"): {"type": ["object", "array", "string"]},
        ("Example", "expect"): expected,
        ("Example", "expect_recording"): expected,
        ("Example", "expect_keys"): expected,
        ("Example", "expect_failed"): {"enum": [reason.value for reason in REFUSALS]},
        ("Example", "expect_ignored"): {"const": True},
    }
    url, manifest = _object(URL_STRATEGY, forms), _object(MANIFEST_STRATEGY, forms)
    url["required"], manifest["required"] = ["url"], ["manifest", "key"]
    one: Schema = {"anyOf": [url, manifest]}
    forms["Source", "recording"] = {"anyOf": [{"type": "array", "items": one}, one, {"type": "null"}]}
    return forms


def _closed(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _fields(words: Mapping[str, str], **forms: str) -> Schema:
    """A rule for each name, or another definition where `forms` names one."""
    return {name: {**_ref(forms.get(name, "rule")), "description": about} for name, about in words.items()}


def _members(words: Mapping[str, str], more: Schema) -> Schema:
    return {"not": {"required": ["const"]}, **_closed(more | _fields(words))}


def _rule_definitions() -> Schema:
    """The rule language: one recursive definition a form. What an expression says is checked by `tunerd check`."""
    rules = {"type": "object", "propertyNames": {"pattern": _NAME}, "additionalProperties": _ref("rule")}
    let = {**rules, "description": "Names for later rules, computed from top to bottom."}
    when = {"$ref": "#/$defs/rule", "description": "Only if this is true; null, false, empty text, [] and {} are not."}
    known = {"description": "A rule, or a list of which one has to be true: known to be no call. What is neither is refused."}
    no_call = {"anyOf": [{"$ref": "#/$defs/rule"}, {"type": "array", "items": _ref("rule")}], **known}
    decide = {
        "let": let,
        "when": when,
        "not_call": no_call,
        "refuse": {**rules, "description": "{reason: rule}: refuse where true."},
    }
    once = {**rules, "maxProperties": 1, "minProperties": 1, "description": "{name: list}: once for each item."}
    each = {"for_each": once, "let": let, "when": when}
    return {
        "rule": {
            "description": "An expression over doc, file and names of let; a number, true or false; null; a list: the first that "
            "is not missing; {const: value}; or a block.",
            "anyOf": [
                {"type": ["string", "number", "boolean", "null"]},
                {"type": "array", "items": _ref("rule")},
                _ref("const"),
                _ref("block"),
            ],
        },
        "const": {**_closed({"const": {"description": "The value as it stands."}}, "const")},
        "block": {
            "type": "object",
            "not": {"required": ["const"]},
            "properties": {
                **each,
                "rows": {"type": "array", "items": _ref("block"), "description": "Blocks that give the rows, in order."},
            },
            "additionalProperties": _ref("rule"),
        },
        "call": _closed(decide | _fields(CALL_FIELDS, transcript_with_tool_calls="rows")),
        "manifest": _closed(decide | _fields(MANIFEST_FIELDS)),
        "rows": {"anyOf": [_EXPRESSION, {"type": "array", "items": _ref("rows")}, _ref("const"), _ref("row")]},
        "row": {
            "not": {"required": ["const"]},
            **_closed(
                each
                | _fields(ROW_MEMBERS, tool="tool", node="node")
                | {"rows": {"type": "array", "items": _ref("row"), "description": "Blocks that give the rows, in order."}}
            ),
        },
        "tool": {"anyOf": [_EXPRESSION, {"type": "array", "items": _ref("tool")}, _ref("const"), _members(TOOL_MEMBERS, each)]},
        "node": {"anyOf": [_EXPRESSION, {"type": "array", "items": _ref("node")}, _ref("const"), _members(NODE_MEMBERS, each)]},
        "gather": {
            **_closed(
                {
                    "key": _ref("rule"),
                    "known": _ref("rule"),
                    "not_call": no_call,
                    "parts": rules,
                    "newest": _ref("rule"),
                    "complete": _ref("rule"),
                    "wait": {"anyOf": [*_DURATION["anyOf"]]},
                },
            )
        },
    }
