"""The configuration as everything else sees it: frozen, checked, with every default.

Here are the models; loading/ reads YAML and environment into them and words every error. Nothing below app.py
sees a whole Config: each part is handed what is its own.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from tunerd.call import Fail, Form, Hold, SendAnyway
from tunerd.outcome import FailReason
from tunerd.places import Node, Place

DAY_S: Final = 86_400.0
MIB: Final = 1024 * 1024

REFUSALS: Final = (
    FailReason.UNREADABLE,
    FailReason.TOO_LARGE,
    FailReason.UNMAPPABLE,
    FailReason.INVALID,
    FailReason.REFUSED,
)
"""Why a document can be refused before anything is sent."""

Seconds = Annotated[float, Field(ge=0)]
"""In YAML `30s`, `10m`, `1h`, `7d` or a number of seconds."""
Bytes = Annotated[int, Field(ge=0)]
"""In YAML `4MiB`, `1GiB`, `500kB` or a number of bytes."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Destination(_Model):
    """base_url + workspace + key: the unit of gate, pause, concurrency and rate limit."""

    name: str
    """`api.usetuner.ai/42`; with `@source` behind it where a source brings a second key for the same workspace."""
    base_url: str
    """Scheme, host and perhaps a path; no slash at the end."""
    workspace_id: Annotated[int, Field(ge=1)]
    api: Literal["auto", "send-calls", "create-call"] = "auto"
    api_key: SecretStr | None = None
    api_key_file: str | None = None
    """Read anew every 5 s, by content."""
    ca_file: str | None = None

    @property
    def workspace(self) -> str:
        """A call id is unique for each (workspace, agent)."""
        return f"{self.base_url}/{self.workspace_id}"

    @property
    def form(self) -> Form | None:
        """The request form where the configuration alone decides it; None: by the key's form."""
        return None if self.api == "auto" else Form(self.api)


def form_of_key(key: str) -> Form:
    """create-call for keys that start with `tr_api_`, else send-calls (shared tuner-api.md)."""
    return Form.CREATE_CALL if key.startswith("tr_api_") else Form.SEND_CALLS


class UrlRule(_Model):
    """Strategy `url:`: a rule over the call document."""

    url: Node
    expires_at: Node | None = None


class ManifestRule(_Model):
    """Strategy `manifest:`: a recording that another source brings, by key."""

    manifest: str
    key: Node
    within_s: Seconds | None = None
    """None stands for `any`."""
    wait_s: Seconds = 30 * 60.0
    near_s: Seconds = 30.0


class Redact(_Model):
    """What is taken out of a source's calls before anything of them is stored or sent. mapping/ compiles it."""

    detect: tuple[str, ...] = ("card", "email", "phone", "iban")
    fields: tuple[str, ...] = ()
    """Paths into the mapped call."""
    patterns: Mapping[str, str] = Field(default_factory=dict)
    """Name -> regular expression; what it finds becomes `[name]`."""
    stored: bool = True
    """The document itself is not stored either."""


class Source(_Model):
    """One configured place to read from. Rules stay Nodes: mapping/ compiles them."""

    name: str
    path: str
    include: tuple[str, ...] = ("*.json", "*.ndjson", "*.jsonl", "*.json.gz", "*.ndjson.gz", "*.jsonl.gz")
    exclude: tuple[str, ...] = ()
    recursive: bool = False
    format: Literal["auto", "json", "ndjson"] = "auto"
    watch: Literal["events", "poll"] = "events"
    rescan_s: Annotated[float, Field(ge=0.01)] = 30.0
    settle_s: Seconds = 1.0
    settle_timeout_s: Seconds = 60.0
    max_document_bytes: Annotated[int, Field(ge=1)] = 4 * MIB
    not_json: Literal["fail", "ignore"] = "fail"
    """Lines of a log that do not even begin like JSON."""
    ignore_older_s: Seconds | None = None
    after_sent: Literal["keep", "delete", "move_to"] = "keep"
    move_to: str | None = None
    """Relative to `path` or absolute, on the same file system."""
    path_groups: str | None = None
    """A regular expression with named groups over the path relative to `path`; its groups are roots of the rules."""
    preset: str | None = None
    timezone: str = "UTC"
    untimed: Literal["reject", "spread"] | None = None
    """None: the preset's, else reject."""
    unknown_roles: Literal["reject", "drop", "agent"] | None = None
    """None: the preset's, else reject."""
    redact: Redact | None = None
    agent: Node | None = None
    documents: Node | None = None
    """Which list in what was read holds the documents."""
    gather: Node | None = None
    call: Node | None = None
    manifest: Node | None = None
    recording: tuple[UrlRule | ManifestRule, ...] | None = None
    """None: the preset's."""
    on_missing: Hold | Fail | SendAnyway = Hold(hold_s=14 * DAY_S)
    destination: str = ""
    """Name of its Destination; empty for a source that only has a manifest mapping."""
    agent_remote_identifier: str | None = None

    @property
    def stores_documents(self) -> bool:
        """Whether documents, and heads of refused ones, may stand in the ledger as they are."""
        return self.redact is None or not self.redact.stored


class Delivery(_Model):
    concurrency: Annotated[int, Field(ge=1, le=1000)] = 8
    timeout_s: Annotated[float, Field(gt=0)] = 30.0
    rate_limit: Annotated[float, Field(gt=0)] | None = None
    """Calls per second for each destination."""
    give_up_after_s: Seconds = 7 * DAY_S
    retry_after_max_s: Seconds = 3600.0
    drain_s: Seconds = 20.0
    on_stop: Literal["finish", "empty"] = "finish"
    accept: Literal["confirmed", "any"] = "confirmed"
    """Which 2xx counts as sent: one whose body says that Tuner took the call, or any."""
    compress: bool = False
    dry_run: bool = False


class LedgerConfig(_Model):
    path: str = "/var/lib/tunerd/ledger.db"
    """From `url: sqlite:///...`."""
    keep_sent_s: Seconds = 30 * DAY_S
    keep_failed_s: Seconds = 90 * DAY_S
    keep_recordings_s: Seconds = 7 * DAY_S
    max_failed_bytes: Bytes = 256 * MIB
    max_pending_bytes: Bytes = 1024 * MIB
    min_free_bytes: Bytes = 64 * MIB
    keep_documents: Annotated[int, Field(ge=0)] = 200


class Http(_Model):
    listen: str = "127.0.0.1:9464"
    """host:port; port 0 takes a free one (told in the log); empty: none."""
    hosts: tuple[str, ...] = ()
    """Further host names under which the page and /status.json answer, in lower case."""


class Log(_Model):
    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Example(_Model):
    """An entry of `tests:`: a document, and what the rules have to make of it."""

    name: str
    place: Place
    source: str
    input: Node | None = None
    """The document itself (a list: several), or its JSON as text."""
    input_file: str | None = None
    """Absolute."""
    document: Annotated[int, Field(ge=1)] | None = None
    """Which one, from 1, where the input holds several."""
    file: str | None = None
    """The path that the rules see, relative to the source's `path`."""
    form: Literal["send-calls", "create-call"] | None = None
    expect: Mapping[str, Node] = Field(default_factory=dict)
    """JMESPath over the payload (with `form:` over that form's body) -> the value."""
    expect_recording: Mapping[str, Node] = Field(default_factory=dict)
    """JMESPath over the recording of a manifest -> the value."""
    expect_keys: Mapping[str, Node] = Field(default_factory=dict)
    """Manifest source -> the key under which the call looks for its recording there."""
    expect_failed: FailReason | None = None
    expect_ignored: bool = False


class Config(_Model):
    file: str
    text: SecretStr = SecretStr("")
    """What the file held when it was read; a key may stand in it."""
    destinations: tuple[Destination, ...]
    sources: tuple[Source, ...]
    delivery: Delivery = Delivery()
    ledger: LedgerConfig = LedgerConfig()
    http: Http = Http()
    log: Log = Log()
    tests: tuple[Example, ...] = ()
    warnings: tuple[str, ...] = ()
    """What `check` warns of and `check --strict` fails on (a missing directory or key file, tmpfs under the ledger)."""
    places: Mapping[str, Place] = Field(default_factory=dict, repr=False)
    """Where the plain keys stand: `ledger.url`, `sources[0].path`; for what is only found out later, as by a reload."""
