"""Table meta: single numbers that the ledger remembers."""

from typing import Final

from tunerd.ledger.sql.database import Execute

GET: Final = "SELECT value FROM meta WHERE name = ?"
SET: Final = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
END_COPY: Final = "DELETE FROM meta WHERE name LIKE 'copying:%'"
"""A copy that was begun (ledger/copying.py) lacks what is written from now on."""
PROBE: Final = "INSERT INTO meta (name, value) VALUES ('touched', 1) ON CONFLICT (name) DO UPDATE SET value = meta.value + 1"
"""Something that nobody reads."""


def number(execute: Execute, name: str, default: int) -> int:
    found = execute(GET, (name,)).fetchone()
    return default if found is None else int(found[0])
