"""A text that must not be shown: whatever prints, logs or compares the value that holds it shows `(hidden)`. Pure."""

from dataclasses import dataclass
from typing import Final

HIDDEN: Final = "(hidden)"


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    _text: str

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return HIDDEN
