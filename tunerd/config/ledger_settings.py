"""What is configured for the ledger: each key declared once (settings.py). Pure."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from tunerd.config.secret import Secret
from tunerd.config.settings import DAY_S, MIB, VARIABLE, Bytes, Seconds, Setting, ValueKind, any_of
from tunerd.config.text_forms import LEDGER_URL, bare_server, parse_ledger_url
from tunerd.record import record


@record
class LedgerConfig:
    path: Annotated[
        str,
        ValueKind.OWN,
        Setting(
            "Where the ledger is: sqlite:///absolute/path, or postgresql://USER@HOST/DATABASE, which several tunerds may share.",
            name="url",
            default="sqlite:///var/lib/tunerd/ledger.db",
            schema=any_of({"type": "string", "pattern": "^(sqlite:///|postgres(ql)?://)"}, VARIABLE),
            parse=parse_ledger_url,
            takes=LEDGER_URL,
        ),
    ] = "/var/lib/tunerd/ledger.db"
    """The ledger's file. With `server` it is what the local files of this instance begin with: `directory`/INSTANCE."""
    server: Secret | None = None
    """The URL of the PostgreSQL server, with its password if it is written there; None: SQLite."""
    directory: Annotated[
        str,
        Setting(
            "With PostgreSQL: the directory for what stays on this machine, such as audio from documents until it is uploaded."
        ),
    ] = "/var/lib/tunerd"
    password_file: Annotated[
        str | None,
        Setting(
            "With PostgreSQL: file that holds the password. It is re-read for each new connection, so a password can be changed "
            "without a restart."
        ),
    ] = None
    notify: Annotated[
        Literal["on", "off"],
        Setting(
            "With PostgreSQL: on: instances wake each other with LISTEN and NOTIFY; off: they look about once a second, which a "
            "pooler in transaction mode needs."
        ),
    ] = "on"
    keep_marks_s: Annotated[
        Seconds,
        Setting("With PostgreSQL: how long it is known which files an instance has read that is gone, and its audio waited for."),
    ] = 7 * DAY_S
    keep_sent_s: Annotated[Seconds, Setting("How long the small row of a sent call is kept, for `status` and duplicates.")] = (
        30 * DAY_S
    )
    keep_failed_s: Annotated[Seconds, Setting("How long a failed call is kept, with its document.")] = 90 * DAY_S
    keep_recordings_s: Annotated[Seconds, Setting("How long a recording waits for its call.")] = 7 * DAY_S
    max_failed_bytes: Annotated[
        Bytes,
        Setting(
            "Documents of failed calls beyond this are dropped, oldest first; not those that no rule could map.",
            name="max_failed_bytes",
        ),
    ] = 256 * MIB
    max_pending_bytes: Annotated[
        Bytes,
        Setting("With more than this open, no new calls are read: they wait on disk.", name="max_pending_bytes"),
    ] = 1024 * MIB
    min_free_bytes: Annotated[Bytes, Setting("With less disk space than this, no new calls are read.")] = 64 * MIB
    max_spool_bytes: Annotated[
        Bytes,
        Setting(
            "Audio that came inside documents (base64) is kept beside the ledger until it is uploaded; with more than this, no "
            "more of it is read.",
            low=1,
        ),
    ] = 1024 * MIB
    keep_documents: Annotated[
        int,
        Setting(
            "How many of the newest documents of sent calls are kept, for `tunerd diff`; in PostgreSQL by each instance.",
            low=0,
        ),
    ] = 200

    @property
    def shown(self) -> str:
        """Where the ledger is, for people: the file, or the URL without user, password and options."""
        return self.path if self.server is None else bare_server(self.server.reveal())

    @property
    def password(self) -> str:
        """The one that is written in the URL; empty: none is."""
        return "" if self.server is None else urlsplit(self.server.reveal()).password or ""
