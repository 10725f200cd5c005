"""Which errors of PostgreSQL pass, and the words for an operator. None of them quotes a statement, a value or a password."""

from typing import Final

import psycopg

from tunerd.ledger.sql.database import RunAgain

_WORDS: Final = {
    "28P01": "the password is wrong; check ledger.password_file, PGPASSFILE or the URL",
    "28000": "the server refuses this user or host; check pg_hba.conf and ledger.url",
    "3D000": "the database does not exist; create it, and name it in ledger.url",
    "42501": "the user of ledger.url lacks a right; it needs CREATE on the database, or to own the schema tunerd",
    "25006": "the server is read-only (a standby); ledger.url has to name the primary",
    "53100": "the disk of the server is full",
    "53200": "the server has no memory left",
    "53300": "the server takes no more connections; raise max_connections or use PgBouncer",
    "53400": "a limit of the server's configuration is reached",
    "57P01": "the server is being shut down",
    "57P02": "the server crashed and restarts",
    "57P03": "the server is starting up",
    "57014": "a statement took too long",
    "55P03": "another session held a lock for too long",
    "40P01": "two sessions waited for each other",
    "40001": "two sessions changed the same rows",
}
NO_PASSWORD: Final = "ledger.password_file cannot be read; check the path, its owner and its mode"  # noqa: S105
NOT_PREPARED: Final = "26000"
"""The server does not know a statement that the client has prepared: in a pipeline that failed it was never prepared."""
_AGAIN: Final = frozenset({"40P01", "40001", "55P03", NOT_PREPARED})
_PASSING_CLASSES: Final = ("08", "53", "57", "58")
"""Connection, resources, intervention by an operator, I/O."""
_PASSING: Final = frozenset({"25006", "28P01", "28000", "3D000", "42501", "55P03", "40P01", "40001"})
"""What an administrator may be changing right now: at run time it is an outage that ends, and no defect."""


def may_run_again(exc: BaseException) -> bool:
    """Two transactions were in each other's way, or a prepared statement is gone. This one was undone, and may be run again."""
    return isinstance(exc, RunAgain) or (isinstance(exc, psycopg.Error) and exc.sqlstate in _AGAIN)


def is_outage(exc: BaseException) -> bool:
    """The server, or the way to it, fails. It may pass, and the same command may be tried again."""
    if isinstance(exc, psycopg.Error) and exc.sqlstate is not None:
        return exc.sqlstate in _PASSING or exc.sqlstate.startswith(_PASSING_CLASSES)
    return isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError))


def outage_words(exc: BaseException) -> str:
    state = exc.sqlstate if isinstance(exc, psycopg.Error) else None
    if state is None or state.startswith("08"):
        return f"the PostgreSQL server of the ledger does not answer ({state or 'no connection'})"
    return f"{_WORDS.get(state, 'the server answers with an error, and its log says which')} ({state})"


def refusal_words(exc: psycopg.Error) -> str:
    """Of an attempt to connect. libpq gives no SQLSTATE for it: its message is read, and quoted only in part."""
    if exc.sqlstate is not None:
        return outage_words(exc)
    if str(exc) == NO_PASSWORD:
        return NO_PASSWORD
    if isinstance(exc, psycopg.ProgrammingError):
        return "ledger.url has a form or an option that libpq does not know"
    if state := _state_of_refusal(exc):
        return f"{_WORDS[state]} ({state})"
    if _is_tls(exc):
        return "TLS was refused; check sslmode and sslrootcert in ledger.url"
    return "no connection to the server; check host and port in ledger.url, and that PostgreSQL runs"


def is_away(exc: psycopg.Error) -> bool:
    """An attempt to connect failed, and a later one may succeed although nobody changes anything."""
    if isinstance(exc, psycopg.ProgrammingError):
        return False
    state = exc.sqlstate or _state_of_refusal(exc)
    return state.startswith(_PASSING_CLASSES) if state else str(exc) != NO_PASSWORD and not _is_tls(exc)


def _state_of_refusal(exc: psycopg.Error) -> str:
    said = str(exc)
    signs = (
        ("password authentication failed", "28P01"), ("no password supplied", "28P01"), ("pg_hba.conf", "28000"),
        ("does not exist", "3D000"), ("too many clients", "53300"), ("starting up", "57P03"), ("shutting down", "57P01"),
        ("session is read-only", "25006"), ("recovery mode", "57P03"),
    )  # fmt: skip
    return next((state for sign, state in signs if sign in said), "")


def _is_tls(exc: psycopg.Error) -> bool:
    return "SSL" in str(exc) or "certificate" in str(exc)
