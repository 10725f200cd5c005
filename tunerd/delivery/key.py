"""The API key of a destination, as it is right now: from the configuration, or from a file that is read anew."""

import asyncio
from collections.abc import Callable, Iterable

from tunerd.call import Form
from tunerd.clock import Clock
from tunerd.config import Destination, form_of_key
from tunerd.config.api_key import KeyUnusable, read_key
from tunerd.events import Emit, KeyChanged

COMPARED_EVERY_S = 5.0


class Key:
    """The current value; `on_change` calls back for each change, also of the reason why there is none.
    Never shows itself in a repr."""

    def __init__(self, destination: Destination) -> None:
        self.value: str | None = None
        """None while the key is missing or empty: nothing can be sent."""
        self.form: Form | None = None
        """Of the requests: the configured one, else the one that the key's form tells; None without a key."""
        self._changed: Callable[[], None] | None = None
        self.missing = ""
        """Why there is no key, in words for an operator; empty while there is one."""
        self.is_local = False
        """There is no key because this process has no descriptor left to read its file with."""
        self._read_from: tuple[object, object] | None = None
        self.follow(destination)

    def on_change(self, changed: Callable[[], None]) -> None:
        self._changed = changed

    def follow(self, destination: Destination) -> bool:
        """Take the key from what this destination says (also after a reload); whether its value changed."""
        self._destination = destination
        return self.refresh()

    def refresh(self) -> bool:
        """Read the file again, if it is one; whether the value changed. Blocking, and short."""
        before, missing = self.value, self.missing
        place = (self._destination.api_key_file, self._destination.api_key)
        try:
            self.value, self.missing, self.is_local = read_key(self._destination), "", False
        except KeyUnusable as unusable:
            if not unusable.local or before is None or place != self._read_from:
                self.value, self.missing, self.is_local = None, str(unusable), unusable.local
            # otherwise the key is as good as it was when it could be read
        self._read_from = place
        configured = self._destination.form
        self.form = configured if configured is not None or self.value is None else form_of_key(self.value)
        if self._changed is not None and (self.value, self.missing) != (before, missing):
            self._changed()
        return self.value != before


async def watch_keys(keys: Callable[[], Iterable[tuple[str, Key]]], clock: Clock, emit: Emit, stop: asyncio.Event) -> None:
    """Compare every key file each COMPARED_EVERY_S until `stop`. Never fails: an unreadable file is a missing key."""
    while not await clock.wait(stop, COMPARED_EVERY_S):
        for destination, key in keys():
            if key.refresh():
                emit(KeyChanged(destination=destination))
