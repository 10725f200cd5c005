"""What is configured for a source, its redaction and its examples: each key declared once (settings.py). Pure."""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Final, Literal

from tunerd.call import Fail, Hold, SendAnyway
from tunerd.config.audio_settings import AudioSettings
from tunerd.config.settings import (
    DAY_S,
    DURATION,
    MIB,
    NULL,
    TEXT,
    VARIABLE,
    Bytes,
    Schema,
    Seconds,
    Setting,
    ValueKind,
    any_of,
)
from tunerd.config.strategy_rules import StrategyRule
from tunerd.config.text_forms import (
    parse_include,
    parse_path_below,
    parse_patterns,
    parse_source_name,
    parse_zone,
)
from tunerd.config.verify_settings import VerifySettings
from tunerd.outcome import FailReason
from tunerd.record import record
from tunerd.yaml_location import Node, YamlLocation

DETECTORS_SHIPPED: Final = ("card", "email", "phone", "iban")
REFUSALS: Final = (
    FailReason.UNREADABLE,
    FailReason.TOO_LARGE,
    FailReason.UNMAPPABLE,
    FailReason.INVALID,
    FailReason.REFUSED,
)
"""Why a document can be refused before anything is sent."""

_DETECTOR: Final[Schema] = {"enum": list(DETECTORS_SHIPPED)}
_EXPECTED: Final[Schema] = {"type": "object", "minProperties": 1}


def _object_of(schema: Schema, name: str) -> Schema:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _defined(name: str) -> Schema:
    """A definition of json_schema.py, or null."""
    return any_of({"$ref": f"#/$defs/{name}"}, NULL)


@record
class Redact:
    """What is taken out of a source's calls before anything of them is stored or sent. mapping/ compiles it."""

    detect: Annotated[
        tuple[str, ...],
        Setting(
            "Built-in detectors: card, email, phone, iban. [] for none.",
            schema=any_of(_DETECTOR, {"type": "array", "items": _DETECTOR}),
        ),
    ] = DETECTORS_SHIPPED
    fields: Annotated[
        tuple[str, ...], Setting("Paths into the mapped call whose value is taken out: call_analysis.summary.")
    ] = ()
    patterns: Annotated[
        Mapping[str, str],
        Setting(
            "{name: 'regular expression'}: what it finds in texts becomes [name].",
            schema={
                "type": ["object", "null"],
                "propertyNames": {"pattern": "^[a-z][a-z_-]{0,30}$"},
                "additionalProperties": TEXT,
            },
        ),
    ] = field(default_factory=dict)
    stored: Annotated[
        bool, Setting("Keep no document in the ledger, only the redacted call. false: keep documents as they are.")
    ] = True


@record
class Source:
    """One configured place to read from. Rules stay Nodes: mapping/ compiles them."""

    name: Annotated[str, Setting("Name of the source, in metrics, logs and `manifest:`.", parse=parse_source_name)]
    path: Annotated[str, Setting("The directory to watch. A relative path starts at the directory of this file.")]
    include: Annotated[tuple[str, ...], Setting("Patterns of the file names to read.", parse=parse_include)] = (
        "*.json", "*.ndjson", "*.jsonl", "*.json.gz", "*.ndjson.gz", "*.jsonl.gz",
    )  # fmt: skip
    exclude: Annotated[tuple[str, ...], Setting("Patterns of the file names to leave alone.", parse=parse_patterns)] = ()
    shared: Annotated[
        bool,
        Setting(
            "With a ledger in PostgreSQL: all instances see this directory with the same files (a volume mounted in each). One "
            "instance reads them, another one when that is gone, and any can upload their audio."
        ),
    ] = False
    recursive: Annotated[bool, Setting("Whether directories below are read as well.")] = False
    format: Annotated[
        Literal["auto", "json", "ndjson"],
        Setting("json: a file is one document or an array of them; ndjson: each line is one; auto: by the file's name."),
    ] = "auto"
    watch: Annotated[
        Literal["events", "poll"], Setting("events: the kernel reports new files; poll: scans only, for network file systems.")
    ] = "events"
    rescan_s: Annotated[Seconds, Setting("How often the directory is scanned, whatever the events reported.", low=0.01)] = 30.0
    settle_s: Annotated[
        Seconds, Setting("How long a file must stay unchanged before it is read, if it was not closed or renamed.")
    ] = 1.0
    settle_timeout_s: Annotated[Seconds, Setting("How long a document may stay incomplete before it is refused.")] = 60.0
    max_document_bytes: Annotated[Bytes, Setting("Larger documents are refused.", low=1)] = 4 * MIB
    not_json: Annotated[
        Literal["fail", "ignore"],
        Setting(
            "Lines of a log that do not begin like JSON: fail each visibly, or ignore them (counted, and logged once a file)."
        ),
    ] = "fail"
    ignore_older_s: Annotated[
        Seconds | None, Setting("Leave files alone that were last changed longer ago than this. Off by default.")
    ] = None
    after_sent: Annotated[
        Literal["keep", "delete", "move_to"],
        ValueKind.OWN,
        Setting(
            "What becomes of a file when all its calls are sent: keep, delete, or {move_to: done/} (relative to path).",
            schema=any_of({"enum": ["keep", "delete"]}, _object_of(TEXT, "move_to"), VARIABLE),
        ),
    ] = "keep"
    move_to: str | None = None
    """Relative to `path` or absolute, on the same file system."""
    path_groups: Annotated[
        str | None, Setting("Regular expression over the path relative to `path`; rules see its named groups as roots.")
    ] = None
    preset: Annotated[
        str | None, Setting("Ready-made rules of a platform; `tunerd presets` lists them.", schema={"$ref": "#/$defs/preset"})
    ] = None
    timezone: Annotated[str, Setting("Of times in the documents that name none.", parse=parse_zone)] = "UTC"
    untimed: Annotated[
        Literal["reject", "spread"] | None, Setting("Speech without times: reject the call, or spread it between its neighbours.")
    ] = None
    """None: the preset's, else reject."""
    unknown_roles: Annotated[
        Literal["reject", "drop", "agent"] | None,
        Setting(
            "Speech under a role that no table of the rules names: reject the call, drop the row, or take it for the agent's."
        ),
    ] = None
    """None: the preset's, else reject."""
    redact: Annotated[
        Redact | None,
        Setting(
            "As `redact:` at the top, for this source; keys left out are taken from there, null is off.",
            schema=_defined("redact"),
        ),
    ] = None
    agent: Annotated[Node | None, Setting("Rule that gives the agent_remote_identifier of each call.")] = None
    documents: Annotated[
        Node | None,
        Setting("Rule that gives the list of documents in what was read: doc.calls. Each is mapped separately."),
    ] = None
    gather: Annotated[
        Node | None,
        Setting("How several documents make one call: key, parts, newest, complete, wait.", schema=_defined("gather")),
    ] = None
    call: Annotated[
        Node | None,
        Setting("Rules that map a document to a call; with a preset they override single fields.", schema=_defined("call")),
    ] = None
    manifest: Annotated[
        Node | None,
        Setting("Rules that map a document to a recording: key, id, match, url, started_at.", schema=_defined("manifest")),
    ] = None
    recording: Annotated[
        tuple[StrategyRule, ...] | None,
        Setting("How a call finds its recording: strategies, tried top to bottom.", schema={"$ref": "#/$defs/recording"}),
    ] = None
    """None: the preset's."""
    on_missing: Annotated[
        Hold | Fail | SendAnyway,
        Setting(
            'When no strategy found a recording: hold, fail, or {send: "https://..."}.',
            default="hold",
            schema=any_of({"enum": ["hold", "fail"]}, _object_of(TEXT, "send"), VARIABLE),
        ),
        Setting("How long `on_missing: hold` keeps a call waiting.", name="hold_for", default="14d", schema=any_of(*DURATION)),
    ] = Hold(hold_s=14 * DAY_S)
    audio: Annotated[
        AudioSettings,
        ValueKind.OWN,
        Setting(
            "How Tuner gets audio whose location is no URL: upload, presign, reject, or a mapping with `publish:`.",
            default="reject",
            schema={"$ref": "#/$defs/audio"},
        ),
    ] = field(default_factory=AudioSettings)
    verify: Annotated[
        VerifySettings,
        ValueKind.OWN,
        Setting(
            "Whether the URL of a recording is asked for before its call is sent: none, get, or a mapping with `request:`.",
            default="none",
            schema={"$ref": "#/$defs/verify"},
        ),
    ] = field(default_factory=VerifySettings)
    destination: Annotated[
        str,
        ValueKind.OWN,
        Setting(
            "As `tuner:` at the top, for this source alone; keys left out are taken from there.",
            name="tuner",
            schema=_defined("tuner"),
        ),
    ] = ""
    """Name of its Destination; empty for a source that only has a manifest mapping."""
    agent_remote_identifier: str | None = None
    holds_audio: bool = False
    """Its manifests have a rule `audio:`, its own or the preset's."""

    @property
    def stores_documents(self) -> bool:
        """Whether the ledger may keep documents, and the beginnings of refused ones, unredacted."""
        return self.redact is None or not self.redact.stored


@record
class Example:
    """An entry of `tests:`: a document, and what the rules must give for it."""

    name: Annotated[str, Setting("What the example shows, in a few words.")]
    location: YamlLocation
    source: Annotated[str, Setting("The source whose rules are tried; may be left out where only one has calls.")]
    input: Annotated[
        Node | None,
        Setting(
            "The document, as YAML or as JSON text; a list means several documents.",
            schema={"type": ["object", "array", "string"]},
        ),
    ] = None
    input_file: Annotated[
        str | None, Setting("A file with the document instead. A relative path starts at the directory of this file.")
    ] = None
    document: Annotated[
        int | None,
        Setting("Which one is meant, from 1, where the input holds several documents (or gathered calls).", low=1),
    ] = None
    file: Annotated[str | None, Setting("The path that the rules see, below the source's `path`.", parse=parse_path_below)] = None
    form: Annotated[
        Literal["send-calls", "create-call"] | None,
        Setting("Map for this request form; `expect` then sees the body of that form."),
    ] = None
    expect: Annotated[
        Mapping[str, Node],
        Setting(
            "{expression: value}: JMESPath over the payload, and the value that it must give (null: nothing).", schema=_EXPECTED
        ),
    ] = field(default_factory=dict)
    expect_recording: Annotated[
        Mapping[str, Node],
        Setting("{expression: value} over the recording: key, url, started_at, duration_ms, ...", schema=_EXPECTED),
    ] = field(default_factory=dict)
    expect_keys: Annotated[
        Mapping[str, Node],
        Setting("{manifest source: key}: under which key the call looks for its recording there.", schema=_EXPECTED),
    ] = field(default_factory=dict)
    expect_failed: Annotated[
        FailReason | None,
        Setting("The document is refused, for this reason.", schema={"enum": [reason.value for reason in REFUSALS]}),
    ] = None
    expect_ignored: Annotated[bool, Setting("The rules leave the document out on purpose.", schema={"const": True})] = False
