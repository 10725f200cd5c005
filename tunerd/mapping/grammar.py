"""Text -> parse tree of an expression: jmespath's own parser, with the decided differences of the rule language.

`!` binds looser than a dot (`!doc.event` negates the event), bare numbers and true, false, null are literals, arguments
and members need their commas. Every name and call in the tree knows its column.
"""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from jmespath import exceptions, lexer
from jmespath.parser import ParsedResult, Parser

from tunerd.mapping.syntax_hints import hint

Tree: TypeAlias = dict[str, Any]
"""A node of jmespath's tree: type, children, value; and `start`, the offset of a name in the text."""

MAX_LENGTH: Final = 10_000
_LITERALS: Final = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class GrammarError(Exception):
    """The text is no expression."""

    what: str
    at: int
    """Offset in the text."""
    cut: bool
    """A quote or bracket is left open (or closed that was never opened): YAML may have cut the text."""


def parse(text: str) -> Tree:
    """Raises GrammarError."""
    if len(text) > MAX_LENGTH:
        raise GrammarError(f"an expression is at most {MAX_LENGTH} characters long", 0, False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", PendingDeprecationWarning)
            return _Parser().tree(text)
    except PendingDeprecationWarning:
        raise GrammarError("backticks hold JSON: write text in single quotes", text.find("`"), False) from None
    except exceptions.EmptyExpressionError:
        raise GrammarError("the expression is empty: write null, or {const: ''} for empty text", 0, False) from None
    except exceptions.IncompleteExpressionError as error:
        raise GrammarError("the expression ends too early", _at(error, text), unbalanced(text)) from None
    except exceptions.LexerError as error:
        message = str(error.message)
        at = _at(error, text)
        what = "a quote is never closed" if "Unclosed" in message else f"a character that no expression knows{hint(text, at)}"
        if message == "Unknown token '='":
            what = "one `=`: write `==` to compare"
        raise GrammarError(what, at, unbalanced(text)) from None
    except exceptions.ParseError as error:
        token = getattr(error, "token_value", "")
        at = _at(error, text)
        what = f"`{token}` does not fit here{hint(text, at)}" if token not in ("", None) else "the expression ends too early"
        raise GrammarError(what, at, unbalanced(text)) from None
    except RecursionError:
        raise GrammarError("the expression is nested too deep", 0, False) from None


def _at(error: Any, text: str) -> int:
    at = getattr(error, "lex_position", 0)
    return at if isinstance(at, int) and 0 <= at <= len(text) else 0


def unbalanced(text: str) -> bool:
    """Whether brackets or quotes of the text do not pair."""
    opened: list[str] = []
    quote = ""
    escaped = False
    for char in text:
        if quote:
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "'\"`":
            quote = char
        elif char in "([{":
            opened.append(char)
        elif char in ")]}" and (not opened or "([{".index(opened.pop()) != ")]}".index(char)):
            return True
    return bool(quote or opened)


_Library: Any = Parser
"""jmespath's parser without its stubs: what of its inside is built on here, they leave out."""


class _Parser(_Library):  # type: ignore[misc]
    BINDING_POWER: ClassVar[dict[str, int]] = {**Parser.BINDING_POWER, "not": 8}

    def tree(self, text: str) -> Tree:
        """Past the parser's cache, which it shares with every other user of the library."""
        parsed: Tree = self._do_parse(text).parsed
        return parsed

    def _parse(self, expression: str) -> Any:
        self._tokens = _with_fractions(list(lexer.Lexer().tokenize(expression)), expression)
        self._index = 0
        tree = self._expression()
        if self._current_token() != "eof":
            token = self._lookahead_token(0)
            raise exceptions.ParseError(token["start"], token["value"], token["type"], "unexpected")
        return ParsedResult(expression, tree)

    def _token_nud_number(self, token: dict[str, Any]) -> Tree:
        return {"type": "literal", "value": token["value"], "children": []}

    def _token_nud_unquoted_identifier(self, token: dict[str, Any]) -> Tree:
        name = token["value"]
        if name in _LITERALS and not token.get("dotted"):
            return {"type": "literal", "value": _LITERALS[name], "children": []}
        return {"type": "field", "children": [], "value": name, "start": token["start"]}

    def _token_nud_quoted_identifier(self, token: dict[str, Any]) -> Tree:
        field: Tree = super()._token_nud_quoted_identifier(token)
        return {**field, "start": token["start"], "quoted": True}

    def _parse_dot_rhs(self, binding_power: int) -> Tree:
        if self._current_token() == "unquoted_identifier":
            self._lookahead_token(0)["dotted"] = True
        if self._current_token() == "lbracket" and self._lookahead(1) == "number":  # `a.[0]` is meant as `a[0]`
            token = self._lookahead_token(0)
            raise exceptions.ParseError(token["start"], ".[", token["type"], "unexpected")
        tree: Tree = super()._parse_dot_rhs(binding_power)
        return tree

    def _token_nud_lbracket(self, token: dict[str, Any]) -> Tree:
        if self._current_token() == "number" and self._lookahead(1) == "comma":
            items: Tree = self._parse_multi_select_list()
            return items
        tree: Tree = super()._token_nud_lbracket(token)
        return tree

    def _token_led_lparen(self, left: Tree) -> Tree:
        if left["type"] != "field":
            token = self._lookahead_token(-1)
            raise exceptions.ParseError(token["start"], token["value"], token["type"], "no function name")
        arguments: list[Tree] = []
        while self._current_token() != "rparen":
            if arguments:
                self._match("comma")
            arguments.append(self._expression())
        self._match("rparen")
        return {"type": "function_expression", "children": arguments, "value": left["value"], "start": left["start"]}

    def _parse_multi_select_hash(self) -> Tree:
        members: list[Tree] = []
        while True:
            key = self._lookahead_token(0)
            self._match_multiple_tokens(["quoted_identifier", "unquoted_identifier"])
            self._match("colon")
            members.append({"type": "key_val_pair", "children": [self._expression()], "value": key["value"]})
            if self._current_token() != "comma":
                self._match("rbrace")
                return {"type": "multi_select_dict", "children": members}
            self._match("comma")


def _with_fractions(tokens: list[Any], text: str) -> list[dict[str, Any]]:
    """`1.5` is three tokens to the lexer; here it is one number."""
    joined: list[dict[str, Any]] = []
    for token in tokens:
        if (
            token["type"] == "number"
            and len(joined) >= 2
            and joined[-1]["type"] == "dot"
            and joined[-2]["type"] == "number"
            and joined[-2]["end"] == joined[-1]["start"]
            and joined[-1]["end"] == token["start"]
            and text[token["start"]].isdigit()
            and isinstance(joined[-2]["value"], int)
        ):
            joined.pop()
            whole = joined.pop()
            number = float(text[whole["start"] : token["end"]])
            joined.append({"type": "number", "value": number, "start": whole["start"], "end": token["end"]})
        else:
            joined.append(dict(token))
    return joined
