"""Where expressions differ from plain JMESPath, and what is told of wrong ones at load."""

import re
from typing import Any

import jmespath
import pytest

from tunerd.mapping.expressions import ExpressionError, compile_text
from tunerd.mapping.functions import Context
from tunerd.mapping.scope import NameScope, Slot

DOC: dict[str, Any] = {
    "event": "ended",
    "zero": 0,
    "empty": "",
    "list": [3, 1, 2],
    "who": 2,
    "true": "a field",
    "people": [{"id": 1, "role": "x"}, {"id": 2, "name": "B", "role": "user"}],
    "deep": {"a": {"b": {"c": 5}}},
}


def names() -> NameScope:
    return NameScope(slots={"doc": Slot(0), "roles": Slot(1, {"bot": "agent"}), "role": Slot(2)})


def run(expression: str) -> Any:
    return compile_text(expression, names(), Context()).run([DOC, None, "user"])


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("!doc.event", False),
        ("!doc.nothing", True),
        ("!doc.people[0].name", True),
        ("!doc.zero", False),
        ("!doc.event && doc.who == 2", False),
        ("doc.who == 2", True),
        ("doc.who == `2`", True),
        ("doc.who >= 1.5", True),
        ("doc.who > -1", True),
        ("doc.who == true", False),
        ("doc.zero == false", False),
        ("doc.nothing == null", True),
        ("doc.true", "a field"),
        ('doc."true"', "a field"),
        ("[1, 2.5, -0.5]", [1, 2.5, -0.5]),
        ("[doc.who, 7]", [2, 7]),
        ("{a: doc.who, b: 'x'}", {"a": 2, "b": "x"}),
        ("doc.list[0]", 3),
        ("doc.deep.a.b.c", 5),
        ("doc.deep.a.b.c.d", None),
        ("doc.who < 'x'", None),
        ("doc.people[?@.role == 'user'].name", ["B"]),
        ("doc.people[?\"role\" == 'user'].name", ["B"]),
        ("doc.people[].role", ["x", "user"]),
        ("doc.list.length(@)", 3),
        ("doc.list | [0]", 3),
        ("to_string(doc.nothing)", None),
        ("length(doc.nothing)", None),
        ("join('-', doc.nothing)", None),
        ("sort_by(doc.nothing, &id)", None),
        ("contains(doc.event, doc.nothing)", None),
        ("merge(doc.deep, doc.nothing)", None),
        ("not_null(doc.nothing, doc.who)", 2),
        ("type(doc.nothing)", "null"),
        ("lookup(role, roles, role)", "user"),
    ],
)
def test_decided_differences_and_roots(expression: str, result: Any) -> None:
    """Negation reaches over dots, numbers and truths are literals, null goes in and comes out."""
    assert run(expression) == result


def test_the_traps_are_there_in_plain_jmespath() -> None:
    """The two worst traps are real in the library: if that changes, the differences may go."""
    assert jmespath.search("!doc.event", {"doc": DOC}) is None
    assert jmespath.search("to_string(doc.nothing)", {"doc": DOC}) == "null"


@pytest.mark.parametrize(
    ("expression", "says", "at"),
    [
        ("doc.people[?role == 'user']", "`@.role`", 12),
        ("doc.people[].{r: role}", "find(list, 'field', value)", 17),
        ("doc.people | role", "`@.role`", 13),
        ("sort_by(doc.people, &role)", "`@.role`", 21),
        ("doc.people[].[doc.who]", "`@.doc`", 14),
        ("dok.id", "did you mean `doc`?", 0),
        ("zebra", "known here: doc, roles, role", 0),
        ("doc.a || lookupp(doc.a, roles)", "did you mean `lookup`?", 9),
        ("lookup(doc.a)", "`lookup(key, table[, default])` got one argument", 0),
        ("subtract(doc.a, doc.b, doc.c)", "got 3 arguments", 0),
        ("concat()", "got no argument", 0),
        ("sort_by(doc.a, doc.b)", "an expression with `&`", 0),
        ("length(&a)", "a value, not `&`", 0),
        ("&doc", "`&` belongs in the arguments", 0),
        ("doc.a[", "ends too early", 6),
        ("doc..a", "does not fit", 4),
        ("doc.a = 1", "write `==`", 6),
        ("concat(doc.a doc.b)", "does not fit", 13),
        ("{a: doc.a b: doc.b}", "does not fit", 10),
        ("concat(doc.a, 'x", "quote is never closed", 14),
        ("", "is empty", 0),
        ("doc.who == `two`", "write text in single quotes", 11),
        ("@", "no current item", 0),
        ("[0]", "no current item", 0),
        ("*.a", "no current item", 0),
        ("doc.[0]", "does not fit", 4),
        ("doc.list[::0]", "can't be 0", 0),
        ("lookup(doc.a, 'x')", "takes a table", 0),
        ("regex(doc.a, '(')", "not a regular expression", 0),
        ("epoch_ms(doc.a, 'Mars/Olympus')", "no such time zone", 0),
        ("(" * 3000 + "doc" + ")" * 3000, "nested too deep", 0),
        ("doc" + ".a" * 9000, "at most 10000 characters", 0),
    ],
)
def test_load_errors_say_what_and_where(expression: str, says: str, at: int) -> None:
    """A wrong expression is told at load, with the offset in it and the way out."""
    with pytest.raises(ExpressionError) as caught:
        compile_text(expression, names(), Context())
    assert says in caught.value.what
    assert caught.value.at == at


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        ("$.id", "a path begins with a name: `doc.id`"),
        (".id", "a path begins with a name: `doc.id`"),
        ("length(.id)", "a path begins with a name: `doc.id`"),
        ("doc.a && $.b", "a path begins with a name: `doc.id`"),
        ("doc.call-id", 'in double quotes: `doc."call-id"`'),
        ("doc.x-y-z.w", 'in double quotes: `doc."x-y-z"`'),
        ("doc.a-1", "`subtract(a, b)` is a - b"),
        ("doc.a + doc.b", "write `add(a, b)`"),
        ("doc.a - doc.b", "write `subtract(a, b)`"),
        ("doc.a - 1", "write `subtract(a, b)`"),
        ("doc.a * 2", "write `multiply(a, b)`"),
        ("doc.a / 2", "write `divide(a, b)`"),
        ("doc['id']", "write `doc.id`"),
        ('doc.a["call-id"]', 'write `doc.a."call-id"`'),
        ("doc[id]", "write `doc.id`"),
        ("{{ doc.id }}", "write it without the braces: `doc.id`"),
        ("${doc.id}", "write it without the braces: `doc.id`"),
        ("doc.a and doc.b", "write `&&`"),
        ("doc.a or doc.b", "write `||`"),
        ("not doc.a", "write `!` for not"),
        ("doc.items.0", "write `doc.items[0]`"),
        ("doc.a ? 1 : 2", "write `if(condition, a, b)`"),
    ],
)
def test_what_other_languages_write_gets_a_hint(expression: str, advice: str) -> None:
    """The likeliest slips say what to write; where it stands in backticks as a whole, that is an expression."""
    with pytest.raises(ExpressionError) as caught:
        compile_text(expression, names(), Context())
    assert advice in caught.value.what
    if (advised := re.search(r"`(doc\.[^`]*)`", advice)) is not None:
        compile_text(advised[1], names(), Context())


@pytest.mark.parametrize("expression", ["%x", "doc..id", "doc.a; 1", "doc.a.'b'", "doc.a$b", "doc.a <> 1", "doc.a.and doc.b"])
def test_no_hint_is_better_than_a_wrong_one(expression: str) -> None:
    """Nothing likely comes to mind: the place alone is told."""
    with pytest.raises(ExpressionError) as caught:
        compile_text(expression, names(), Context())
    assert "write" not in caught.value.what
    assert caught.value.what.endswith(("that no expression knows", "does not fit here"))


def test_constants_are_folded() -> None:
    """What is the same for every document is computed at load."""
    assert compile_text("concat('a', lookup('bot', roles))", names(), Context()).value == "aagent"
    assert compile_text("if(1 > 2, 'x', [1, 2])", names(), Context()).value == [1, 2]
