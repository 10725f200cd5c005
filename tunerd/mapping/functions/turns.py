"""`turns`: a transcript as plain text, `Who: what was said` and more lines of the same turn, as a list of turns."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tunerd.mapping.functions.registry import Code, Context, Nulls, Registry
from tunerd.mapping.functions.text import compiled, split_lines, text_of
from tunerd.mapping.values import refuse

REGISTRY: Final = Registry()
_COLON: Final = re.compile("[:\uff1a]")
_LONGEST_LABEL: Final = 60
_CLOCK: Final = re.compile(
    r"[\[(<]?(?:\d{1,4}[-/]\d{1,2}[-/]\d{1,4}[T ]\s?)?\d{1,3}:\d{2}(?::\d{2})?(?:[.,]\d{1,9})?Z?[\])>]?[ \t|-]{0,3}"
)
"""A time before the speaker: `[00:01:12] Agent: ...`."""
_AROUND: Final = "*_#`>[]()<\"' \t-"


def _check_patterns(codes: Sequence[Code], context: Context) -> None:
    """Checks patterns that are known at load. Raises RuleError."""
    if len(codes) == 3 and codes[2].value.__class__ is dict:
        for pattern in codes[2].value:
            compiled("turns", pattern, ignore_case=True)


@REGISTRY.add(
    "turns(text, speakers[, patterns])",
    "a list of {who, text} from a transcript of lines `Speaker: words`. `speakers` is a table or a list of the names, `patterns` "
    "a table as for classify. A line without a known speaker is added to the turn before it",
    nulls=Nulls.FIRST,
    prepare=_check_patterns,
)
def _turns(value: Any, speakers: Any, patterns: Any = None) -> Any:
    text = text_of("turns", value)
    known = _known(speakers, patterns)
    made: list[tuple[str | None, list[str]]] = []
    for line in split_lines(text):
        found = next(((who, rest) for label, rest in _readings(line) if (who := known(label)) is not None), None)
        if found is not None:
            made.append((found[0], [found[1]]))
        elif made:
            made[-1][1].append(line)
        else:
            made.append((None, [line]))
    turns = [(who, "\n".join(lines).strip()) for who, lines in made]
    return [{"text": text} if who is None else {"who": who, "text": text} for who, text in turns]


def _readings(line: str) -> Iterator[tuple[str, str]]:
    """What may be the speaker, and what is said then: with a time before it or without, in bold, in brackets."""
    starts = [0]
    if (clock := _CLOCK.match(line)) is not None:
        starts.append(clock.end())
    for start in starts:
        colons = _COLON.finditer(line, start, start + _LONGEST_LABEL + 1)
        colon = next((found for found in colons if _is_closed(line[start : found.start()])), None)
        if colon is None:
            continue
        label = line[start : colon.start()].strip(_AROUND)
        rest = line[colon.end() :].strip().removeprefix("**").strip()
        if label:
            yield label, rest
            bare = label.partition("(")[0].partition("[")[0].strip(_AROUND)
            if bare and bare != label:
                yield bare, rest


def _is_closed(label: str) -> bool:
    """Whether a colon behind it is outside of brackets: `Agent (00:12): ...`."""
    return label.count("(") == label.count(")") and label.count("[") == label.count("]")


def _known(speakers: Any, patterns: Any) -> Callable[[str], str | None]:
    """The speaker's name as the table spells it, or as the text does where only a pattern knows it."""
    if speakers is not None and speakers.__class__ not in (dict, list):
        raise refuse("turns", "a table or a list of speakers", speakers)
    if patterns is not None and patterns.__class__ is not dict:
        raise refuse("turns", "a table of patterns", patterns)
    names: dict[str, str] = {}
    for name in speakers or ():
        if name.__class__ is str:
            names.setdefault(name.strip().casefold(), name)
    searches: Sequence[Callable[[str], Any]] = [
        compiled("turns", pattern, ignore_case=True).found for pattern in (patterns or {})
    ]

    def known(label: str) -> str | None:
        name = names.get(label.casefold())
        if name is None and any(search(label) for search in searches):
            return label
        return name

    return known
