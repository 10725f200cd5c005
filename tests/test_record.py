"""A record is what a frozen, slotted dataclass is; only faster to make."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import pytest

from tunerd.record import positional_record, record


class Fields:
    """The fields of the classes that are compared."""

    number: int
    text: str = "none"
    found: list[int] = field(default_factory=list)
    note: str = field(default="", compare=False)
    hidden: str = field(default="secret", repr=False)


def _made(decorate: Callable[[type], Any]) -> Any:
    return decorate(type("Made", (), dict(vars(Fields)) | {"__annotations__": Fields.__annotations__}))


PAIRS = [
    pytest.param(_made(record), _made(dataclass(frozen=True, slots=True, kw_only=True)), id="record"),
    pytest.param(_made(positional_record), _made(dataclass(frozen=True, slots=True)), id="positional_record"),
]


@pytest.mark.parametrize(("ours", "plain"), PAIRS)
def test_it_is_a_dataclass(ours: Any, plain: Any) -> None:
    """Fields, defaults, repr, slots, the fields by place of a `match`, and `replace` are those of a dataclass."""
    assert is_dataclass(ours)
    assert [one.name for one in fields(ours)] == [one.name for one in fields(plain)]
    assert ours.__match_args__ == plain.__match_args__
    assert ours.__slots__ == plain.__slots__
    assert not hasattr(ours(number=1), "__dict__")
    mine, other = ours(number=1, text="two", found=[3]), plain(number=1, text="two", found=[3])
    assert repr(mine) == repr(other)
    assert dataclasses.asdict(mine) == dataclasses.asdict(other)
    assert dataclasses.asdict(replace(mine, number=4)) == dataclasses.asdict(replace(other, number=4))
    assert ours(number=1).found is not ours(number=1).found


@pytest.mark.parametrize(("ours", "plain"), PAIRS)
def test_it_compares_as_a_dataclass(ours: Any, plain: Any) -> None:
    """Equality and hash are of the fields that compare, and only within one class."""
    for made in (ours, plain):
        one = made(number=1, found=(), note="a")
        assert one == made(number=1, found=(), note="b")
        assert hash(one) == hash(made(number=1, found=(), note="b"))
        assert one != made(number=2, found=())
        assert made(number=1, found=()) != (ours if made is plain else plain)(number=1, found=())


@pytest.mark.parametrize(("ours", "plain"), PAIRS)
def test_it_is_frozen(ours: Any, plain: Any) -> None:
    """Nothing of it can be set or deleted."""
    for made in (ours, plain):
        with pytest.raises(dataclasses.FrozenInstanceError, match="number"):
            made(number=1).number = 2
        with pytest.raises(dataclasses.FrozenInstanceError, match="number"):
            del made(number=1).number


@pytest.mark.parametrize(("ours", "plain"), PAIRS)
@pytest.mark.parametrize("arguments", [{}, {"number": 1, "other": 2}])
def test_it_takes_only_its_fields(ours: Any, plain: Any, arguments: dict[str, int]) -> None:
    """A missing and an unknown argument are a TypeError."""
    for made in (ours, plain):
        with pytest.raises(TypeError):
            made(**arguments)


def test_by_place() -> None:
    """A record takes no argument by place; a positional record does."""
    assert PAIRS[1].values[0](1, "two") == PAIRS[1].values[0](number=1, text="two")  # type: ignore[operator]
    with pytest.raises(TypeError):
        PAIRS[0].values[0](1)  # type: ignore[operator]


def test_one_below_another() -> None:
    """A record may extend another one, and may be without fields; a method of its own stays."""

    @record
    class First:
        one: int

    @record
    class Second(First):
        two: int = 2

        def __repr__(self) -> str:
            return "second"

    @record
    class Empty:
        pass

    assert (Second(one=1).one, Second(one=1).two, str(Second(one=1))) == (1, 2, "second")
    assert Second(one=1) == Second(one=1)
    assert Second(one=1) != First(one=1)
    assert Empty() == Empty()
