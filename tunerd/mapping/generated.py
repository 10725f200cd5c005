"""Compiled rules -> one generated Python function a rule, for the run that every document takes first.

What is written is our own templates over names made here (v1, v2 for values, s3 for slots, k4 for constants): no text of a
rule or document is ever part of it; field names, literals and functions come in as the constants. The closures stay as
they are: the run with places uses them, and tests hold both against each other. Each template says what its closure does,
but a path that was read before is not read again, and what rules are mostly made of needs no call.

A value that a template does not take falls to the function that the closure would have called, errors included. All templates
are in this one file, long as it is, so that what can become code is read in one place.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import floor
from typing import Any, Final, TypeAlias

from tunerd.mapping.blocks import Emits
from tunerd.mapping.closures import Code, flattened, ordered
from tunerd.mapping.functions import UNKNOWN, Context, Function, Nulls, Run
from tunerd.mapping.functions.times import epoch_ms
from tunerd.mapping.values import RuleError, kind, true

_NUMBERS: Final = (int, float)
_INDENT: Final = " "
_BUILT_INS: Final = {"dict": dict, "list": list, "str": str, "int": int, "float": float, "bool": bool, "len": len}
_PLAIN: Final = {None: "None", True: "True", False: "False"}
_Sink: TypeAlias = Callable[[str], None]
"""Writes what is done with a row: takes the name of its value."""


def generated(codes: Sequence[Code]) -> list[Run]:
    """The same rules as functions of the slots; where one cannot be written (it is nested too deep for Python's own
    compiler), its closure."""
    space: dict[str, Any] = {"__builtins__": _BUILT_INS}
    try:
        text, constants = source_of(codes)
        names = [f"k{number}" for number in range(len(constants))]
        exec(compile(f"def make({', '.join(names)}):\n{text}", "<generated from rules>", "exec"), space)  # noqa: S102
    except (SyntaxError, RecursionError, MemoryError):
        return [codes[0].run] if len(codes) == 1 else [run for code in codes for run in generated([code])]
    made: list[Run] = space["make"](*constants)
    return made


def source_of(codes: Sequence[Code]) -> tuple[str, list[Any]]:
    """The text of the functions, and the constants k0, k1, ... that it names."""
    constants = _Constants()
    parts = [_Writer(constants).function(f"rule_{number}", code) for number, code in enumerate(codes)]
    listed = ", ".join(f"rule_{number}" for number in range(len(codes)))
    return "".join(parts) + f"{_INDENT}return [{listed}]\n", constants.values


def _nothing(name: Any) -> None:
    """In the place of an object's `get`, where there is no object."""


def _not_a_list(value: Any) -> RuleError:
    return RuleError("for_each", f"takes a list, got {kind(value)}")


class _Finder:
    """`find` for one document: looks through a list once, however often it is asked. As `find` where the value is no text."""

    __slots__ = ("_field", "_items", "_slow", "_table")

    def __init__(self, field: str, slow: Callable[[Any, Any, Any], Any]) -> None:
        self._field = field
        self._slow = slow
        self._items: Any = None
        self._table: dict[str, Any] = {}

    def __call__(self, items: Any, value: Any) -> Any:
        if value.__class__ is not str or items.__class__ is not list:
            return self._slow(items, self._field, value)
        if items is not self._items:
            table: dict[str, Any] = {}
            for item in items:
                if item.__class__ is dict and (found := item.get(self._field)).__class__ is str:
                    table.setdefault(found, item)
            self._items, self._table = items, table
        return self._table.get(value)


class _Constants:
    def __init__(self) -> None:
        self.values: list[Any] = []
        self._names: dict[Any, str] = {}

    def name(self, value: Any) -> str:
        if value is None or value.__class__ is bool:
            return _PLAIN[value]
        plain = value.__class__ in (str, int, float)
        key = (value.__class__, repr(value)) if plain else id(value)  # `values` keeps it alive: the id stays its own
        if key not in self._names:
            self._names[key] = f"k{len(self.values)}"
            self.values.append(value)
        return self._names[key]


class _Writer:
    """Writes one function. A method a form: it writes the statements and gives the name that then holds the value.

    `current` is the name of the current item, None in the root scope.
    """

    def __init__(self, constants: _Constants) -> None:
        self._k = constants.name
        self._lines: list[str] = []
        self._stores: set[int] = set()
        """Lines that only keep a slot filled, for closures."""
        self._closures = False
        self._depth = 2
        self._count = 0
        self._slots: dict[int, str] = {}
        self._heads: list[str] = []
        self._read: list[dict[tuple[str, str], str]] = [{}]
        """What was read of which object, by block: (name, field) -> name."""
        self._getters: dict[str, str] = {}
        self._gotten: set[str] = set()
        """Whose getter is used."""

    def function(self, name: str, code: Code) -> str:
        result = self._value(code, None)
        kept = [line for at, line in enumerate(self._lines) if self._closures or at not in self._stores]
        body = [*(f"{_INDENT * 2}{head}" for head in self._heads), *kept, f"{_INDENT * 2}return {result}"]
        return f"{_INDENT}def {name}(s):\n" + "\n".join(body) + "\n"

    # Text

    def _line(self, text: str) -> None:
        self._lines.append(_INDENT * self._depth + text)

    def _fresh(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def _set(self, text: str) -> str:
        name = self._fresh()
        self._line(f"{name} = {text}")
        return name

    @contextmanager
    def _under(self, head: str) -> Iterator[None]:
        self._line(head)
        self._depth += 1
        self._read.append({})
        before = len(self._lines)
        yield
        if len(self._lines) == before:
            self._line("pass")
        self._read.pop()
        self._depth -= 1

    @contextmanager
    def _loop(self, item: str, items: str) -> Iterator[None]:
        """Of an item several fields are read, so its `get` is looked up once."""
        with self._under(f"for {item} in {items}:"):
            at = len(self._lines)
            self._line("pass")
            getter = f"g{item[1:]}"
            self._getters[item] = getter
            yield
            if item in self._gotten:
                head = f"{getter} = {item}.get if {item}.__class__ is dict else {self._k(_nothing)}"
                self._lines[at] = _INDENT * self._depth + head

    # Values

    def _value(self, code: Code, current: str | None) -> str:
        if code.value is not UNKNOWN:
            return self._k(code.value)
        if code.path is not None:
            index, fields = code.path
            value = self._slot(index)
            for field in fields:
                value = self._get(value, field)
            return value
        if code.form is None:
            if current is None:
                self._closures = True
            return self._set(f"{self._k(code.run)}({current or 's'})")
        shape, *parts = code.form
        if shape in ("compared", "not"):
            return self._set(self._condition(code, current))
        write: Callable[..., str] = getattr(self, f"_{shape}")
        return write(current, *parts)

    def _slot(self, index: int) -> str:
        if index not in self._slots:
            self._slots[index] = f"s{index}"
            self._heads.append(f"s{index} = s[{index}]")
        return self._slots[index]

    def _bind(self, index: int, value: str) -> None:
        self._slots[index] = value
        self._stores.add(len(self._lines))
        self._line(f"s[{index}] = {value}")

    def _get(self, value: str, field: str) -> str:
        key = (value, field)
        for read in self._read:
            if key in read:
                return read[key]
        name = self._k(field)
        if value in self._getters:
            self._gotten.add(value)
            made = self._set(f"{self._getters[value]}({name})")
        else:
            made = self._set(f"{value}.get({name}) if {value}.__class__ is dict else None")
        self._read[-1][key] = made
        return made

    def _field(self, current: str, name: str) -> str:
        return self._get(current, name)

    def _current(self, current: str) -> str:
        return current

    def _index(self, current: str, at: int) -> str:
        least, k = self._k(at + 1 if at >= 0 else -at), self._k(at)
        return self._set(f"{current}[{k}] if {current}.__class__ is list and len({current}) >= {least} else None")

    def _slice(self, current: str, part: slice) -> str:
        return self._set(f"{current}[{self._k(part)}] if {current}.__class__ is list else None")

    def _then(self, current: str | None, before: Code, after: Code) -> str:
        return self._value(after, self._value(before, current))

    # Lists and objects

    def _flatten(self, current: str | None, of: Code) -> str:
        values = self._value(of, current)
        return self._set(f"{self._k(flattened)}({values}) if {values}.__class__ is list else None")

    def _each(self, current: str | None, of: Code, holds: Code | None, item: Code | None) -> str:
        flat = of.form is not None and of.form[0] == "flatten"
        values = self._value(of.form[1] if flat and of.form else of, current)
        made = self._set("None")
        with self._under(f"if {values}.__class__ is list:"):
            self._line(f"{made} = []")
            add, one = self._set(f"{made}.append"), self._fresh()
            with self._loop(one, f"{self._k(flattened)}({values})" if flat else values):
                if holds is None:
                    self._add(add, one, item)
                else:
                    with self._under(f"if {self._condition(holds, one)}:"):
                        self._add(add, one, item)
        return made

    def _add(self, add: str, one: str, item: Code | None) -> None:
        """Append what `item` makes of the item, where that is not null."""
        shape = item.form[0] if item is not None and item.form is not None else ""
        if item is not None and item.form is not None and shape in ("object", "list"):
            with self._under(f"if {one} is not None:"):
                self._line(f"{add}({self._literal(item.form, one)})")
            return
        value = one if item is None else self._value(item, one)
        self._line(f"if {value} is not None: {add}({value})")

    def _literal(self, form: tuple[Any, ...], current: str | None) -> str:
        shape, parts, _ = form
        if shape == "list":
            return f"[{', '.join([self._value(part, current) for part in parts])}]"
        return f"{{{', '.join([f'{self._k(name)}: {self._value(part, current)}' for name, part in parts])}}}"

    def _multi(self, current: str | None, form: tuple[Any, ...]) -> str:
        if current is None:
            return self._set(self._literal(form, None))
        made = self._set("None")
        with self._under(f"if {current} is not None:"):
            self._line(f"{made} = {self._literal(form, current)}")
        return made

    def _list(self, current: str | None, parts: Any, root: bool) -> str:
        return self._multi(current, ("list", parts, root))

    def _object(self, current: str | None, parts: Any, root: bool) -> str:
        return self._multi(current, ("object", parts, root))

    # Truth

    def _true(self, value: str) -> str:
        return f"({value} or {value}.__class__ in {self._k(_NUMBERS)})"

    def _missing(self, value: str) -> str:
        return f"not {value} and {value} is not False and {value}.__class__ not in {self._k(_NUMBERS)}"

    def _condition(self, code: Code, current: str | None) -> str:
        """The text of a condition, JMESPath's truth of the value: the statements that it needs are written."""
        if code.value is not UNKNOWN:
            return "True" if true(code.value) else "False"
        shape = code.form[0] if code.form is not None else ""
        if code.form is not None and shape == "not":
            return f"(not {self._condition(code.form[1], current)})"
        if code.form is not None and shape == "compared":
            return self._comparison(current, *code.form[1:])
        if code.form is not None and shape in ("and", "or"):
            first = self._condition(code.form[1], current)
            at = len(self._lines)
            held = self._set(first)
            with self._under(f"if {'not ' if shape == 'or' else ''}{held}:"):
                before = len(self._lines)
                second = self._condition(code.form[2], current)
                plain = len(self._lines) == before
                self._line(f"{held} = {second}")
            if plain:  # nothing had to be written for the second: both in one
                del self._lines[at:]
                return f"({first} {shape} {second})"
            return held
        return self._true(self._value(code, current))

    def _comparison(self, current: str | None, left: Code, right: Code, how: str) -> str:
        if how not in ("eq", "ne"):
            return self._set(f"{self._k(ordered(how))}({self._value(left, current)}, {self._value(right, current)})")
        if left.value is not UNKNOWN:
            left, right = right, left
        a, b = self._value(left, current), self._value(right, current)
        wanted = how == "eq"
        if right.value is None or right.value.__class__ is bool:
            return f"({a} is {'' if wanted else 'not '}{b})"
        if right.value.__class__ is str:
            return f"({a} {'==' if wanted else '!='} {b})"
        same = f"({a} == {b} and ({a}.__class__ is bool) == ({b}.__class__ is bool))"
        return same if wanted else f"(not {same})"

    def _or(self, current: str | None, left: Code, right: Code) -> str:
        made = self._set(self._value(left, current))
        with self._under(f"if not {self._true(made)}:"):
            self._line(f"{made} = {self._value(right, current)}")
        return made

    def _and(self, current: str | None, left: Code, right: Code) -> str:
        made = self._set(self._value(left, current))
        with self._under(f"if {self._true(made)}:"):
            self._line(f"{made} = {self._value(right, current)}")
        return made

    # Calls

    def _call(self, current: str | None, function: Function, codes: Sequence[Code], context: Context) -> str:
        short = self._SHORT.get(function.name)
        if short is not None and (made := short(self, current, function, codes, context)) is not None:
            return made
        called = function.call
        if function.prepare is not None and all(code.value is not UNKNOWN for code in codes[1:]):
            runs: list[Run] = [lambda value: value, *(code.run for code in codes[1:])]
            called = function.prepare(runs, [UNKNOWN, *(code.value for code in codes[1:])], context) or called
            if called is not function.call:
                return self._set(f"{self._k(called)}({self._value(codes[0], current)})")
        if function.prepare is not None and called is function.call and function.name not in _AS_CALLED:
            return self._prepared(current, function, codes, context)
        return self._plain(current, function, codes)

    def _plain(self, current: str | None, function: Function, codes: Sequence[Code]) -> str:
        """With the function's way with nulls: what comes after a null argument is not looked at."""
        if function.nulls is Nulls.SEEN:
            return self._set(f"{self._k(function.call)}({', '.join([self._value(code, current) for code in codes])})")
        values: list[str] = []
        made = self._set("None")
        depth = self._depth
        for code in codes:
            values.append(self._value(code, current))
            if code.value is UNKNOWN or code.value is None:
                self._line(f"if {values[-1]} is not None:")
                self._depth += 1
                self._read.append({})
        self._line(f"{made} = {self._k(function.call)}({', '.join(values)})")
        while self._depth > depth:
            self._read.pop()
            self._depth -= 1
        return made

    def _prepared(self, current: str | None, function: Function, codes: Sequence[Code], context: Context) -> str:
        """A function that compiles its call: its arguments' values go in as the scope."""
        if function.prepare is None:
            return self._plain(current, function, codes)
        runs = [code.run if code.value is not UNKNOWN else _picked(at) for at, code in enumerate(codes)]
        called = function.prepare(runs, [code.value for code in codes], context)
        if called is None:
            return self._plain(current, function, codes)
        return self._set(f"{self._k(called)}(({', '.join([self._value(code, current) for code in codes])},))")

    def _seconds(self, current: str | None, function: Function, codes: Sequence[Code], _: Context) -> str | None:
        value, made = self._value(codes[0], current), self._fresh()
        with self._under(f"if {value}.__class__ is float and {self._k(-1e15)} < {value} < {self._k(1e15)}:"):
            self._line(f"{made} = {self._k(floor)}({value} * 1000 + 0.5)")
        self._line(f"elif {value}.__class__ is int: {made} = {value} * 1000")
        self._line(f"else: {made} = None if {value} is None else {self._k(function.call)}({value})")
        return made

    def _epoch(self, current: str | None, function: Function, codes: Sequence[Code], context: Context) -> str | None:
        return self._instant(current, codes[0], context.zone) if len(codes) == 1 else None

    def _instant(self, current: str | None, code: Code, zone: Any) -> str:
        value = self._value(code, current)
        made = self._set(value)
        # Whole epoch ms stand as they are: most rows have them, or nothing.
        with self._under(f"if {value} is not None and not ({value}.__class__ is int and {self._ms_range(value)}):"):
            self._line(f"{made} = {self._k(epoch_ms)}({value}, {self._k(zone)})")
        return made

    def _ms_range(self, value: str) -> str:
        return f"{self._k(10**11)} <= {value} < {self._k(10**13)}"

    def _strip(self, current: str | None, function: Function, codes: Sequence[Code], _: Context) -> str | None:
        if len(codes) != 1:
            return None
        value, made = self._value(codes[0], current), self._fresh()
        slow = f"None if {value} is None else {self._k(function.call)}({value})"
        self._line(f"{made} = {value}.strip() if {value}.__class__ is str else {slow}")
        return made

    def _lookup(self, current: str | None, function: Function, codes: Sequence[Code], context: Context) -> str | None:
        table = codes[1].value
        if table.__class__ is not dict or function.prepare is None:
            return None
        runs: list[Run] = [lambda key: key, lambda _: table]
        slow = function.prepare(runs, [UNKNOWN, table], context)
        key, made = self._value(codes[0], current), self._fresh()
        self._line(f"{made} = {self._k(table.get)}({key}) if {key}.__class__ is str else None")
        with self._under(f"if {made} is None and {key} is not None:"):
            self._line(f"{made} = {self._k(slow)}({key})")
        if len(codes) == 3:
            with self._under(f"if {made} is None:"):
                self._line(f"{made} = {self._value(codes[2], current)}")
        return made

    def _if(self, current: str | None, function: Function, codes: Sequence[Code], _: Context) -> str | None:
        yes = self._value(codes[1], current)
        no = self._value(codes[2], current) if len(codes) == 3 else "None"
        return self._set(f"{yes} if {self._condition(codes[0], current)} else {no}")

    def _find(self, current: str | None, function: Function, codes: Sequence[Code], _: Context) -> str | None:
        field = codes[1].value
        if field.__class__ is not str:
            return None
        finder = f"f{self._fresh()[1:]}"
        self._heads.append(f"{finder} = {self._k(_Finder)}({self._k(field)}, {self._k(function.call)})")
        items, made = self._value(codes[0], current), self._set("None")
        with self._under(f"if {items} is not None:"):
            value = self._value(codes[2], current)
            self._line(f"if {value} is not None: {made} = {finder}({items}, {value})")
        return made

    _SHORT: Final[Mapping[str, "_Short"]] = {
        "seconds_to_ms": _seconds,
        "epoch_ms": _epoch,
        "strip": _strip,
        "lookup": _lookup,
        "if": _if,
        "find": _find,
    }

    # Rules

    def _first(self, current: str | None, codes: Sequence[Code]) -> str:
        made = self._set(self._value(codes[0], current))
        for code in codes[1:]:
            with self._under(f"if {self._missing(made)}:"):
                self._line(f"{made} = {self._value(code, current)}")
        self._line(f"if {self._missing(made)}: {made} = None")
        return made

    def _rows(self, current: str | None, emits: Emits) -> str:
        made = self._set("[]")
        add = self._set(f"{made}.append")
        self._emit(emits, made, lambda row: self._line(f"{add}({row})"))
        return self._set(f"{made} or None")

    def _emit(self, emits: Emits, made: str, sink: _Sink) -> None:
        if emits.form is None:
            self._closures = True
            self._line(f"{self._k(emits.run)}(s, {made})")
            return
        shape = emits.form[0]
        if shape == "row":
            self._row(emits.form[1], sink)
        elif shape == "loop":
            _, each, item, body = emits.form
            items = self._value(each, None)
            with self._under(f"if {items} is not None:"):
                self._line(f"if {items}.__class__ is not list: raise {self._k(_not_a_list)}({items})")
                one = self._fresh()
                with self._loop(one, items):
                    self._bind(item, one)
                    self._emit(body, made, sink)
        else:
            _, lets, when, blocks = emits.form
            self._let(lets)
            with self._when(when):
                for block in blocks:
                    self._emit(block, made, sink)

    def _row(self, code: Code, sink: _Sink) -> None:
        if code.form is not None and code.form[0] == "block":
            self._in_block(code.form, sink)
            return
        value = self._value(code, None)
        with self._under(f"if {value} is not None:"):
            sink(value)

    def _block(self, current: str | None, *form: Any) -> str:
        made = self._set("None")
        self._in_block(("block", *form), lambda value: self._line(f"{made} = {value}"))
        return made

    def _in_block(self, form: tuple[Any, ...], sink: _Sink) -> None:
        _, lets, when, role, members = form
        self._let(lets)
        with self._when(when):
            if role is None:
                value = self._members("{}", members)
                with self._under(f"if {value}:"):
                    sink(value)
                return
            given = self._value(role, None)
            with self._under(f"if {given}:"):
                sink(self._members(f"{{{self._k('role')}: {given}}}", members))

    def _members(self, first: str, members: Sequence[tuple[str, Code]]) -> str:
        made = self._set(first)
        for name, code in members:
            value = self._value(code, None)
            unless = f"if {value} is not None: " if code.value is UNKNOWN or code.value is None else ""
            self._line(f"{unless}{made}[{self._k(name)}] = {value}")
        return made

    def _let(self, lets: Sequence[tuple[int, Code]]) -> None:
        for index, code in lets:
            self._bind(index, self._value(code, None))

    @contextmanager
    def _when(self, when: Code | None) -> Iterator[None]:
        if when is None:
            yield
        else:
            with self._under(f"if {self._condition(when, None)}:"):
                yield


_Short: TypeAlias = Callable[[_Writer, str | None, Function, Sequence[Code], Context], str | None]
_AS_CALLED: Final = frozenset({"lookup", "if", "find"})
"""Their `prepare` changes how fast they are, not what they give."""


def _picked(at: int) -> Run:
    return lambda values: values[at]
