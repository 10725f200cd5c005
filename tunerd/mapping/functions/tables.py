"""Functions that look something up: in tables, in lists of objects, in lists of pairs."""

from collections.abc import Sequence
from typing import Any, Final

from tunerd.mapping.functions.registry import UNKNOWN, Code, Context, Nulls, Registry, Run
from tunerd.mapping.values import InexactError, RuleError, equal, lost_digits, refuse

REGISTRY: Final = Registry()


def _name(key: Any) -> str:
    """A key as the tables of a YAML file and of JSON spell it."""
    if key.__class__ is str:
        return key
    if key.__class__ is bool:
        return "true" if key else "false"
    if key.__class__ is float:
        if lost_digits(key):
            raise InexactError("lookup", "got a key that is a number and lost digits when it was read (it is beyond 2^53)")
        return str(int(key)) if key.is_integer() else repr(key)
    if key.__class__ is int:
        return repr(key)
    raise refuse("lookup", "text, a number, true or false as key", key)


def _position(key: Any) -> int | None:
    if key.__class__ is str:
        return int(key) if key.isdecimal() and len(key) < 10 else None
    if key.__class__ is float and key.is_integer():
        return int(key)
    if key.__class__ is int:
        return key
    raise refuse("lookup", "a position in the list", key)


def _folded(table: dict[str, Any]) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for name, value in table.items():
        folded.setdefault(name.casefold(), value)
    return folded


def _prepare_lookup(codes: Sequence[Code], context: Context) -> Run | None:
    table = codes[1].value
    if table is not UNKNOWN and table is not None and table.__class__ not in (dict, list):
        raise refuse("lookup", "a table (an object or a list)", table)
    if table is UNKNOWN and context.reserve is not None:
        return _lookup_in_document(codes, context.reserve())
    if table.__class__ is not dict:
        return None
    key, exact, folded = codes[0].run, table, _folded(table)
    default: Run = codes[2].run if len(codes) == 3 else lambda _: None

    def run(scope: Any) -> Any:
        name = key(scope)
        if name.__class__ is not str:
            if name is None:
                return default(scope)
            name = _name(name)
        found = exact.get(name)
        if found is None:
            found = folded.get(name.casefold())
        return default(scope) if found is None else found

    return run


def _lookup_in_document(codes: Sequence[Code], memory: int) -> Run:
    """A table of the document is folded once a document, however many rows ask it."""
    key, table = codes[0].run, codes[1].run
    default: Run = codes[2].run if len(codes) == 3 else lambda _: None

    def run(slots: Any) -> Any:
        name, of = key(slots), table(slots)
        if of.__class__ is not dict or name is None:
            return _lookup(name, of, default(slots))
        name = _name(name)
        found = of.get(name)
        if found is None:
            known = slots[memory]
            if known is None or known[0] is not of:
                known = slots[memory] = (of, _folded(of))
            found = known[1].get(name.casefold())
        return default(slots) if found is None else found

    return run


@REGISTRY.add(
    "lookup(key, table[, default])",
    "the value in an object by its key (first the exact key, then in any case), or in a list by its position; "
    "the default if key, table or value is null",
    nulls=Nulls.SEEN,
    prepare=_prepare_lookup,
    texts=True,
)
def _lookup(key: Any, table: Any, default: Any = None) -> Any:
    if key is None or table is None:
        return default
    if table.__class__ is list:
        at = _position(key)
        found = table[at] if at is not None and 0 <= at < len(table) else None
    elif table.__class__ is dict:
        name = _name(key)
        found = table.get(name)
        if found is None:
            found = _folded(table).get(name.casefold())
    else:
        raise refuse("lookup", "a table (an object or a list)", table)
    return default if found is None else found


_PLAIN: Final = frozenset({str, int, float, bool})


def _key(value: Any) -> Any:
    """Equal exactly where two plain values are equal to the rules: 1 and 1.0 are, 1 and true are not."""
    return (value,) if value.__class__ is bool else value


def _by_field(items: list[Any], field: str) -> dict[Any, Any] | None:
    """The first object of each value. None where numbers lost digits: each comparison has to see that."""
    table: dict[Any, Any] = {}
    for item in items:
        if item.__class__ is dict and (found := item.get(field)).__class__ in _PLAIN:
            if lost_digits(found):
                return None
            table.setdefault(_key(found), item)
    return table


def _prepare_find(codes: Sequence[Code], context: Context) -> Run | None:
    """A list is looked through once a document, however many rows ask it."""
    field = codes[1].value
    if field.__class__ is not str or context.reserve is None:
        return None
    items, wanted, memory = codes[0].run, codes[2].run, context.reserve()

    def run(slots: Any) -> Any:
        listed = items(slots)
        if listed is None or (value := wanted(slots)) is None:
            return None
        if listed.__class__ is not list or value.__class__ not in _PLAIN:
            return _find(listed, field, value)
        known = slots[memory]
        if known is None or known[0] is not listed:
            known = slots[memory] = (listed, _by_field(listed, field))
        return _find(listed, field, value) if known[1] is None else known[1].get(_key(value))

    return run


@REGISTRY.add(
    "find(list, field, value)", "the first object in the list whose field equals the value", prepare=_prepare_find, texts=True
)
def _find(items: Any, field: Any, value: Any) -> Any:
    if items.__class__ is not list:
        raise refuse("find", "a list", items)
    if field.__class__ is not str:
        raise refuse("find", "the name of a field", field)
    return next((item for item in items if item.__class__ is dict and equal(item.get(field), value)), None)


@REGISTRY.add(
    "from_pairs(list, key_field, value_field)",
    "one object from a list of {name, value}; if a name occurs twice, the last one counts",
)
def _from_pairs(items: Any, key_field: Any, value_field: Any) -> Any:
    if items.__class__ is not list:
        raise refuse("from_pairs", "a list", items)
    made: dict[str, Any] = {}
    for item in items:
        if item.__class__ is not dict:
            raise RuleError("from_pairs", "takes a list of objects")
        key = item.get(key_field)
        if key is not None:
            made[_name(key)] = item.get(value_field)
    return made
