"""What a value is to the rules: one notion of missing, JMESPath's truth and equality, and how a value is named in errors.

Only judgements about single JSON values belong here; functions/ holds what the rules can call.
"""

from typing import Any

_NUMBERS = (int, float)


class RuleError(Exception):
    """A rule met a value that it cannot take. Names the function and the kind of value, never the value."""

    def __init__(self, function: str, what: str) -> None:
        super().__init__(f"{function}: {what}" if function else what)
        self.function = function
        self.what = what


class InexactError(RuleError):
    """A number that may have lost digits would tell things apart."""


_EXACT = 2**53
"""From here on a float no longer tells whole numbers apart."""
_ADVICE = "have it written as text, in quotes"


def lost_digits(value: Any) -> bool:
    """Whether the value is a number that was read as a float and is so large that digits may be gone."""
    return value.__class__ is float and not -_EXACT < value < _EXACT


def exact(value: Any, function: str = "") -> Any:
    """The value as an identity: whole numbers as such, however they were written (1e3, 7.0). Raises InexactError for a number
    that may have lost digits."""
    if value.__class__ is not float:
        return value
    if lost_digits(value):
        raise InexactError(function, f"got a number that lost digits when it was read (it is beyond 2^53): {_ADVICE}")
    if not value.is_integer():
        raise InexactError(function, f"got a fraction, which tells nothing apart for sure: {_ADVICE}")
    return int(value)


def missing(value: Any) -> bool:
    """null, "", [] and {} are missing; 0 and false are values."""
    return not value and value is not False and value.__class__ not in _NUMBERS


def true(value: Any) -> bool:
    """JMESPath's truth: null, false, "", [] and {} are false; 0 is true."""
    return bool(value) or value.__class__ in _NUMBERS


def equal(left: Any, right: Any) -> bool:
    """JMESPath's equality, in which 1 is not true and 0 is not false. Raises InexactError for two numbers that look equal after
    one of them lost digits."""
    if left != right or (left.__class__ is bool) != (right.__class__ is bool):
        return False
    if lost_digits(left) or lost_digits(right):
        raise InexactError("==", "compares numbers that lost digits when they were read (they are beyond 2^53)")
    return True


def is_number(value: Any) -> bool:
    return value.__class__ in _NUMBERS


def kind(value: Any) -> str:
    """The kind of a value, as errors and `explain` name it."""
    if value is None:
        return "null"
    if value.__class__ is bool:
        return "true or false"
    if value.__class__ in _NUMBERS:
        return "a number"
    if isinstance(value, str):
        return "text" if value.strip() else "empty text"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else type(value).__name__


def refuse(function: str, wants: str, value: Any) -> RuleError:
    """The error for a value of the wrong kind."""
    return RuleError(function, f"takes {wants}, got {kind(value)}")
