"""A URL with which anybody can read an object until it ends: what objects.py gives, importable without obstore."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedUrl:
    url: str = field(repr=False)
    """A secret: whoever has it can read the object."""
    expires_at: float
