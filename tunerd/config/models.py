"""The configuration in force, frozen and with every default; and, in the annotations, each key that people write, declared once.

A field with a Setting is a key (settings.py); the others are worked out by loading/. Nothing below app.py sees a whole Config:
app.py hands each part its own section.
"""

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Final, Literal, TypeAlias

from tunerd.call import Form
from tunerd.config.ledger_settings import LedgerConfig
from tunerd.config.secret import Secret
from tunerd.config.settings import DAY_S, NULL, VARIABLE, Seconds, Setting, ValueKind, any_of
from tunerd.config.source_settings import Example, Redact, Source
from tunerd.config.text_forms import (
    DEFAULT_BASE_URL,
    FIRST_LABEL,
    parse_base_url,
    parse_control_socket,
    parse_destination_name,
    parse_hosts,
    parse_instance,
    parse_listen,
)
from tunerd.record import positional_record, record
from tunerd.yaml_location import YamlLocation

Api: TypeAlias = Literal["auto", "send-calls", "create-call"]


@record
class TunerSection:
    """A `tuner:` block as it is written, at the top or in a source. loading/tuner.py makes Destinations of them."""

    name: Annotated[
        str | None,
        Setting(
            "Name of this destination in metrics; without it `default`, or in a source the source's name.",
            parse=parse_destination_name,
        ),
    ] = None
    workspace_id: Annotated[int | None, Setting("Number of the workspace in Tuner.", low=1)] = None
    agent_remote_identifier: Annotated[
        str | None,
        Setting("Tuner's name of the agent whose calls these are. A source may override it by a rule: `agent: doc.agent_id`."),
    ] = None
    api_key: Annotated[
        Secret | None,
        Setting("The key itself; `api_key_file` or the variable TUNER_API_KEY is better."),
    ] = None
    api_key_file: Annotated[
        str | None, Setting("File that holds the key. It is re-read every 5 s, so a key can be rotated without a restart.")
    ] = None
    base_url: Annotated[str, Setting("Where Tuner is.", parse=parse_base_url)] = DEFAULT_BASE_URL
    api: Annotated[Api, Setting("Request form: send-calls (X-API-Key), create-call (Bearer), or auto: by the key's form.")] = (
        "auto"
    )
    ca_file: Annotated[str | None, Setting("PEM file with the certificate authorities to trust instead of the system's.")] = None


@record
class Destination:
    """base_url + workspace + key: the unit of pauses, concurrency and rate limit."""

    name: str
    """`api.usetuner.ai/42`; with `@source` behind it where a source brings a second key for the same workspace."""
    base_url: str
    """Scheme, host and perhaps a path; no slash at the end."""
    workspace_id: int
    api: Api = "auto"
    api_key: Secret | None = None
    api_key_file: str | None = None
    ca_file: str | None = None
    label: str = field(default=FIRST_LABEL, compare=False)
    """What metrics call it (`name:` in the configuration)."""

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


@record
class Delivery:
    concurrency: Annotated[int, Setting("At most this many uploads at a time, for each destination.", low=1, high=1000)] = 8
    timeout_s: Annotated[Seconds, Setting("How long one attempt may take.", above=0)] = 30.0
    rate_limit: Annotated[float | None, Setting("At most this many calls per second, for each destination.", above=0)] = None
    fleet_concurrency: Annotated[
        int | None,
        Setting("At most this many uploads at a time, for each destination, of all instances that share a ledger.", low=1),
    ] = None
    give_up_after_s: Annotated[
        Seconds, Setting("A call that fails for this long while others are accepted is not retried any more.")
    ] = 7 * DAY_S
    retry_after_max_s: Annotated[Seconds, Setting("A longer Retry-After is shortened to this.")] = 3600.0
    drain_s: Annotated[Seconds, Setting("How long a stop may take.")] = 20.0
    on_stop: Annotated[
        Literal["finish", "empty"],
        Setting("finish: complete the uploads in flight; empty: deliver all calls that are due (for sidecars)."),
    ] = "finish"
    accept: Annotated[
        Literal["confirmed", "any"], Setting("confirmed: a 2xx counts as sent if its body says so; any: every 2xx counts.")
    ] = "confirmed"
    compress: Annotated[bool, Setting("Send gzip bodies.")] = False
    dry_run: Annotated[bool, Setting("Do everything but the upload.")] = False


@record
class Http:
    listen: Annotated[
        str,
        ValueKind.OWN,
        Setting(
            "host:port of /metrics, /healthz and /readyz; null for none.",
            schema=any_of({"type": "string"}, NULL),
            parse=parse_listen,
            takes="host:port, like 127.0.0.1:9464, or null for none",
        ),
    ] = "127.0.0.1:9464"
    """Port 0 takes a free one (the log names it); empty: none."""
    admin_listen: Annotated[
        str,
        ValueKind.OWN,
        Setting(
            "host:port of the status page and /status.json; null for none. An address that other machines reach needs "
            "`admin_token_file`.",
            schema=any_of({"type": "string"}, NULL),
            parse=parse_listen,
            takes="host:port, like 127.0.0.1:9465, or null for none",
        ),
    ] = "127.0.0.1:9465"
    """As `listen`."""
    admin_token_file: Annotated[
        str | None,
        Setting("File with the token that the status page asks for before it retries, dismisses, pauses or resumes anything."),
    ] = None
    hosts: Annotated[
        tuple[str, ...],
        Setting("Host names, beside addresses and localhost, under which the page and /status.json answer.", parse=parse_hosts),
    ] = ()
    """In lower case."""


@record
class Log:
    format: Annotated[Literal["auto", "json", "text"], Setting("auto: text on a terminal, else JSON lines.")] = "auto"
    level: Annotated[Literal["debug", "info", "warning", "error"], Setting("The least severe lines that are written.")] = "info"


@record
class TopLevel:
    """Keys at the top of the file that belong to no section."""

    control_socket: Annotated[
        str | None,
        Setting(
            "Socket on which the daemon answers `tunerd status` and the other commands. Default: in the directory that "
            "RUNTIME_DIRECTORY names (systemd and the image set it), else beside the ledger.",
            schema=any_of({"type": "string", "pattern": r"^/.*\.sock$"}, VARIABLE, NULL),
            parse=parse_control_socket,
        ),
    ] = None
    instance: Annotated[
        str | None,
        Setting(
            "Name of this tunerd among those that share a ledger. Default: the name of the host or pod.", parse=parse_instance
        ),
    ] = None


@record
class Config:
    file: str
    text: Secret = field(default=Secret(""))
    """What the file held when it was read; it may contain an API key."""
    destinations: tuple[Destination, ...]
    sources: tuple[Source, ...]
    delivery: Delivery = Delivery()
    ledger: LedgerConfig = LedgerConfig()
    http: Http = Http()
    log: Log = Log()
    control_socket: str | None = None
    instance: str = ""
    """Its name among those that share a ledger."""
    tests: tuple[Example, ...] = ()
    warnings: tuple[str, ...] = ()
    """What `check` warns of and `check --strict` fails on (a missing directory or key file, tmpfs under the ledger)."""
    locations: Mapping[str, YamlLocation] = field(default_factory=dict, repr=False)
    """The location of each plain key in the file (`ledger.url`, `sources[0].path`), for problems found later, as by a reload."""


@positional_record
class TopKey:
    """A key at the top of the file: a mapping, or a list of mappings, with the keys that `model` declares."""

    model: type
    about: str


SECTIONS: Final[Mapping[str, TopKey]] = {
    "tuner": TopKey(TunerSection, "Where the calls go, and with which key."),
    "sources": TopKey(Source, "The directories to read from."),
    "redact": TopKey(Redact, "What is taken out of calls before anything of them is stored or sent."),
    "delivery": TopKey(Delivery, "How calls are sent."),
    "ledger": TopKey(LedgerConfig, "The durable record of every call."),
    "http": TopKey(Http, "Metrics, health and status page."),
    "log": TopKey(Log, "The log."),
    "tests": TopKey(Example, "Examples that `tunerd test` checks."),
}
"""In the order they are shown."""
