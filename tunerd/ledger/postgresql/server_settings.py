"""`ledger:` of the configuration -> Server."""

from tunerd.config import LedgerConfig
from tunerd.ledger.postgresql.postgresql_server import Server


def server_of(settings: LedgerConfig) -> Server:
    assert settings.server is not None  # noqa: S101
    is_direct = settings.notify == "on"  # with `off` a pooler in transaction mode may be between
    return Server(
        url=settings.server.reveal(), password_file=settings.password_file, prepares=is_direct, notifies=is_direct
    )  # fmt: skip
