"""The one table between the keys as people write them in YAML and the fields of the models in models.py. Pure.

Names in YAML carry no unit (`settle: 1s`), fields do (`settle_s`). Types, bounds, choices and defaults stay in the
models and are read off them here; this table adds the name, the way of writing, and what the key is for. The reader,
the JSON Schema and the printer all go by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunerd.config import Delivery, Destination, Example, Http, LedgerConfig, Log, ManifestRule, Redact, Source, UrlRule
from tunerd.config.quantities import DURATION_FORM, SIZE_FORM, duration_text, size_text


class Kind(StrEnum):
    """How a value is written."""

    TEXT = "text"
    SECRET = "secret"  # noqa: S105
    INTEGER = "integer"
    NUMBER = "number"
    SWITCH = "switch"
    CHOICE = "choice"
    DURATION = "duration"
    SIZE = "size"
    TEXTS = "texts"
    """A list of texts, or one text."""
    RULE = "rule"
    """Belongs to mapping/: handed on as a Node, `${NAME}` untouched."""
    FORM = "form"
    """A form of its own; its reader stands in file.py, its schema in schema.py."""


@dataclass(frozen=True, slots=True)
class Key:
    name: str
    field: str
    """Of the section's model; several keys may feed one field, and then `kind` is FORM."""
    kind: Kind
    about: str
    """One or two sentences: the description in the JSON Schema."""
    default: str | None = None
    """As it would be written, where the model's own default does not say it."""


@dataclass(frozen=True, slots=True)
class Section:
    model: type[BaseModel]
    keys: tuple[Key, ...]

    def key(self, name: str) -> Key:
        return next(key for key in self.keys if key.name == name)

    def bounds(self, key: Key) -> "Bounds":
        return _bounds(self.model.model_fields[key.field])


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a model says of a field."""

    low: float | None = None
    above: float | None = None
    """The value must be greater than this."""
    high: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    nullable: bool = False
    default: Any = None
    """None also where there is none."""
    required: bool = False


def _key(name: str, kind: Kind, about: str, *, field: str | None = None, default: str | None = None) -> Key:
    suffix = {Kind.DURATION: "_s", Kind.SIZE: "_bytes"}.get(kind, "")
    return Key(name, field or (name if name.endswith(suffix) else name + suffix), kind, about, default)


TUNER: Final = Section(
    Destination,
    (
        _key("workspace_id", Kind.INTEGER, "Number of the workspace in Tuner."),
        _key(
            "agent_remote_identifier",
            Kind.TEXT,
            "Tuner's name of the agent whose calls these are. A source may override it by a rule: `agent: doc.agent_id`.",
            field="name",
        ),
        _key("api_key", Kind.SECRET, "The key itself; better `api_key_file`, or the environment variable TUNER_API_KEY."),
        _key("api_key_file", Kind.TEXT, "File that holds the key. Its content is compared every 5 s: write a new key into it."),
        _key("base_url", Kind.TEXT, "Where Tuner is.", default="https://api.usetuner.ai"),
        _key("api", Kind.CHOICE, "Request form: send-calls (X-API-Key), create-call (Bearer), or auto: by the key's form."),
        _key("ca_file", Kind.TEXT, "PEM file with the certificate authorities to trust instead of the system's."),
    ),
)

URL_STRATEGY: Final = Section(
    UrlRule,
    (
        _key("url", Kind.RULE, "Rule over the call's document: the URL of the audio."),
        _key("expires_at", Kind.RULE, "Rule over the call's document: when that URL stops working."),
    ),
)

MANIFEST_STRATEGY: Final = Section(
    ManifestRule,
    (
        _key("manifest", Kind.TEXT, "Name of the source that brings the recordings."),
        _key("key", Kind.RULE, "Rule over the call's document: the key that its recording has, too."),
        _key(
            "within",
            Kind.FORM,
            "How far the start of the recording may be from the start of the call; `any` where recordings have no start.",
            field="within_s",
            default="10m",
        ),
        _key(
            "near",
            Kind.DURATION,
            "A recording that starts this close to the start of the call, or during the call, is taken at once; one that is "
            "farther away when both have been known for `wait` and nothing nearer came.",
        ),
        _key("wait", Kind.DURATION, "How long the call may wait for this strategy to answer."),
    ),
)

REDACT: Final = Section(
    Redact,
    (
        _key("detect", Kind.TEXTS, "Built-in detectors: card, email, phone, iban. [] for none."),
        _key("fields", Kind.TEXTS, "Paths into the mapped call whose value is taken out: call_analysis.summary."),
        _key("patterns", Kind.FORM, "{name: 'regular expression'}: what it finds in texts becomes [name]."),
        _key("stored", Kind.SWITCH, "Keep no document in the ledger, only the redacted call. false: keep documents as they are."),
    ),
)

SOURCE: Final = Section(
    Source,
    (
        _key("name", Kind.TEXT, "Name of the source, in metrics, logs and `manifest:`."),
        _key("path", Kind.TEXT, "The directory to watch. Relative paths start at the directory of this file."),
        _key("include", Kind.TEXTS, "Patterns of the file names to read."),
        _key("exclude", Kind.TEXTS, "Patterns of the file names to leave alone."),
        _key("recursive", Kind.SWITCH, "Whether directories below are read as well."),
        _key("format", Kind.CHOICE, "json: a file is one document or an array of them; ndjson: each line is one; auto: by name."),
        _key("watch", Kind.CHOICE, "events: the kernel tells of new files; poll: for network file systems, scans only."),
        _key("rescan", Kind.DURATION, "How often the directory is scanned, whatever the events said."),
        _key("settle", Kind.DURATION, "How long a file must stay unchanged before it is read, if it was not closed or renamed."),
        _key("settle_timeout", Kind.DURATION, "How long an incomplete document may stay so before it is refused."),
        _key("max_document", Kind.SIZE, "Larger documents are refused."),
        _key(
            "not_json",
            Kind.CHOICE,
            "Lines of a log that do not begin like JSON: fail each visibly, or ignore them (counted, and told once a file).",
        ),
        _key(
            "ignore_older", Kind.DURATION, "Leave files alone that were last changed longer ago. Off by default.", default="null"
        ),
        _key(
            "after_sent",
            Kind.FORM,
            "What becomes of a file when all its calls are sent: keep, delete, or {move_to: done/} (relative to path).",
        ),
        _key("path_groups", Kind.TEXT, "Regular expression over the path; its named groups are roots of the rules."),
        _key("preset", Kind.TEXT, "Ready-made rules of a platform; `tunerd presets` lists them."),
        _key("timezone", Kind.TEXT, "Of times in the documents that name none."),
        _key("untimed", Kind.CHOICE, "Speech without times: reject the call, or spread it between its neighbours."),
        _key(
            "unknown_roles",
            Kind.CHOICE,
            "Speech under a role that no table of the rules names: reject the call, drop the row, or take it for the agent's.",
        ),
        _key("redact", Kind.FORM, "As `redact:` at the top, for this source; keys left out are taken from there, null is off."),
        _key("agent", Kind.RULE, "Rule that gives the agent_remote_identifier of each call."),
        _key(
            "documents", Kind.RULE, "Rule that gives the list of documents in what was read: doc.calls. Each is mapped by itself."
        ),
        _key("gather", Kind.RULE, "How several documents make one call: key, parts, newest, complete, wait."),
        _key("call", Kind.RULE, "Rules that map a document to a call; with a preset they override single fields."),
        _key("manifest", Kind.RULE, "Rules that map a document to a recording: key, id, url, started_at."),
        _key("recording", Kind.FORM, "How a call finds its recording: strategies, tried top to bottom."),
        _key(
            "on_missing", Kind.FORM, 'When no strategy found a recording: hold, fail, or {send: "https://..."}.', default="hold"
        ),
        _key("hold_for", Kind.FORM, "How long `on_missing: hold` keeps a call waiting.", field="on_missing", default="14d"),
        _key(
            "tuner", Kind.FORM, "As `tuner:` at the top, for this source alone; keys left out are taken from there.", field="name"
        ),
    ),
)

DELIVERY: Final = Section(
    Delivery,
    (
        _key("concurrency", Kind.INTEGER, "Uploads at a time, for each destination, at most."),
        _key("timeout", Kind.DURATION, "Of one attempt."),
        _key("rate_limit", Kind.NUMBER, "Calls per second for each destination, at most."),
        _key(
            "give_up_after",
            Kind.DURATION,
            "A call that fails for so long while others are accepted is not tried again by itself.",
        ),
        _key("retry_after_max", Kind.DURATION, "A Retry-After beyond this is shortened to it."),
        _key("drain", Kind.DURATION, "How long a stop may take."),
        _key("on_stop", Kind.CHOICE, "finish what is in flight; or empty: deliver all that is due (for sidecars)."),
        _key(
            "accept",
            Kind.CHOICE,
            "confirmed: a 2xx counts as sent if its body says so; any: every 2xx counts.",
        ),
        _key("compress", Kind.SWITCH, "Send gzip bodies."),
        _key("dry_run", Kind.SWITCH, "Do everything but the upload."),
    ),
)

LEDGER: Final = Section(
    LedgerConfig,
    (
        _key(
            "url",
            Kind.FORM,
            "Where the ledger is: sqlite:///absolute/path.",
            field="path",
            default="sqlite:///var/lib/tunerd/ledger.db",
        ),
        _key("keep_sent", Kind.DURATION, "How long the small row of a sent call stays, for `status` and duplicates."),
        _key("keep_failed", Kind.DURATION, "How long a failed call stays, with its document."),
        _key("keep_recordings", Kind.DURATION, "How long a recording waits for its call."),
        _key(
            "max_failed_bytes",
            Kind.SIZE,
            "Documents of failed calls beyond this are dropped, oldest first; not those that no rule could map.",
        ),
        _key("max_pending_bytes", Kind.SIZE, "With more than this open, no new calls are read: they wait on disk."),
        _key("min_free", Kind.SIZE, "With less disk space than this, no new calls are read."),
        _key("keep_documents", Kind.INTEGER, "So many of the newest documents stay, for `tunerd diff`."),
    ),
)

HTTP: Final = Section(
    Http,
    (
        _key("listen", Kind.FORM, "host:port of metrics, health and the status page; null for none."),
        _key("hosts", Kind.TEXTS, "Host names, beside addresses and localhost, under which the page and /status.json answer."),
    ),
)

LOG: Final = Section(
    Log,
    (
        _key("format", Kind.CHOICE, "auto: text on a terminal, else JSON lines."),
        _key("level", Kind.CHOICE, "The least severe lines that are written."),
    ),
)

EXAMPLE: Final = Section(
    Example,
    (
        _key("name", Kind.TEXT, "What the example shows, in a few words."),
        _key("source", Kind.TEXT, "The source whose rules are tried; may be left out where only one has calls."),
        _key("input", Kind.RULE, "The document, as YAML or as JSON text; a list stands for several documents."),
        _key("input_file", Kind.TEXT, "A file with the document instead. Relative paths start at the directory of this file."),
        _key(
            "document", Kind.INTEGER, "Which one is meant, from 1, where the input holds several documents (or gathered calls)."
        ),
        _key("file", Kind.TEXT, "The path that the rules see, relative to the source's `path`."),
        _key("form", Kind.CHOICE, "Map for this request form; `expect` then sees the body of that form."),
        _key("expect", Kind.FORM, "{expression: value}: JMESPath over the payload, and what it has to give. null: nothing."),
        _key("expect_recording", Kind.FORM, "{expression: value} over the recording: key, url, started_at, duration_ms, ..."),
        _key("expect_keys", Kind.FORM, "{manifest source: key}: under which key the call looks for its recording there."),
        _key("expect_failed", Kind.FORM, "The document is refused, for this reason."),
        _key("expect_ignored", Kind.SWITCH, "The rules leave the document out on purpose."),
    ),
)

TOP: Final[Mapping[str, str]] = {
    "tuner": "Where the calls go, and with which key.",
    "sources": "The directories to read from.",
    "redact": "What is taken out of calls before anything of them is stored or sent.",
    "delivery": "How calls are sent.",
    "ledger": "The durable record of every call.",
    "http": "Metrics, health and status page.",
    "log": "The log.",
    "tests": "Examples that `tunerd test` checks.",
}
"""The keys at the top, in the order they are shown."""

SECTIONS: Final[Mapping[str, Section]] = {
    "tuner": TUNER, "sources": SOURCE, "redact": REDACT, "delivery": DELIVERY, "ledger": LEDGER, "http": HTTP, "log": LOG,
}  # fmt: skip


def wants(key: Key, bounds: Bounds) -> str:
    """What the key takes, in plain words: `a whole number from 1 to 1000`."""
    match key.kind:
        case Kind.TEXT | Kind.SECRET:
            words = "text"
        case Kind.INTEGER:
            words = "a whole number" + _range(bounds)
        case Kind.NUMBER:
            words = "a number" + _range(bounds)
        case Kind.SWITCH:
            words = "true or false"
        case Kind.CHOICE:
            words = f"one of {', '.join(bounds.choices)}"
        case Kind.DURATION:
            words = DURATION_FORM + _range(bounds, duration_text)
        case Kind.SIZE:
            words = SIZE_FORM + _range(bounds, size_text)
        case Kind.TEXTS:
            words = "a list of texts, or one text"
        case Kind.RULE | Kind.FORM:
            words = "another form"
    return words


def _range(bounds: Bounds, show: Any = str) -> str:
    def text(value: float) -> str:
        return str(show(int(value) if value == int(value) else value))

    if bounds.low is not None and bounds.high is not None:
        return f" from {text(bounds.low)} to {text(bounds.high)}"
    if bounds.above is not None:
        return " greater than 0" if bounds.above == 0 else f" greater than {text(bounds.above)}"
    if bounds.low:
        return f", at least {text(bounds.low)}"
    return ""


def _bounds(info: FieldInfo) -> Bounds:
    found: dict[str, Any] = {}
    nullable = False

    def look(annotation: Any, metadata: tuple[Any, ...]) -> None:
        nonlocal nullable
        for item in metadata:
            match item:
                case Ge(ge=value):
                    found["low"] = value
                case Gt(gt=value):
                    found["above"] = value
                case Le(le=value):
                    found["high"] = value
                case Lt(lt=value):
                    found["below"] = value
                case FieldInfo():
                    look(item.annotation, tuple(item.metadata))
        origin = get_origin(annotation)
        if origin is Annotated:
            inner, *rest = get_args(annotation)
            look(inner, tuple(rest))
        elif origin is Literal:
            found["choices"] = get_args(annotation)
        elif annotation is type(None):
            nullable = True
        elif origin is not tuple:
            for part in get_args(annotation):
                look(part, ())

    look(info.annotation, tuple(info.metadata))
    default = None if info.default is PydanticUndefined else info.default
    return Bounds(**found, nullable=nullable, default=default, required=info.is_required())
