"""A URL with which anybody can read an object until it ends: what objects.py gives, importable without obstore."""

from dataclasses import field

from tunerd.record import record


@record
class SignedUrl:
    url: str = field(repr=False)
    """A secret: whoever has it can read the object."""
    expires_at: float
