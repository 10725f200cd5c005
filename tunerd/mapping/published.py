"""`publish: {url: rule}` of a source's audio: the URL under which a server of the user has the recording of a location. Pure.

The rule is an expression over `location` alone, so it can be applied when a body is frozen, whatever brought the location.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from tunerd.call import Refusal
from tunerd.location import BadLocation, Location, LocationKind, stored_location, url_location
from tunerd.mapping.functions import Context, Run
from tunerd.mapping.row_values import text_of
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.trace import TRACE_SLOT, Misfit, Trace
from tunerd.outcome import FailReason
from tunerd.yaml_location import Node, Problem, YamlLocation

_WHERE: Final = "audio.publish.url"
_NOWHERE: Final = YamlLocation("", 1, 1)


def url_rule_problems(node: Node, path: str) -> Sequence[Problem]:
    """What is wrong with the rule; the configuration is refused for it."""
    if not isinstance(node.value, str):
        what = "takes an expression, like concat('https://cdn.example/', url_quote(location.name))"
        return [Problem(location=node.location, path=f"{path}.{_WHERE}", message=what)]
    compiler, _ = _compiled(node)
    return [Problem(location=one.location, path=f"{path}.{one.path}", message=one.message) for one in compiler.problems]


def published_url(rule: str, location: str) -> str | Refusal:
    """The URL that the rule gives for a location that is none. The same arguments give the same URL."""
    there = stored_location(location)
    if there.kind is LocationKind.EMBEDDED:
        return _refused("the audio is inside a document, and no server has it: write `audio: upload`")
    try:
        given = text_of(_run(rule)(location_root(there)))
    except Misfit as misfit:
        return _refused(f"{misfit.told}; its `location` is {there.text}")
    if not given:
        return _refused(f"gave no text for {there.text}")
    try:
        return url_location(given.strip()).text
    except BadLocation as bad:
        return _refused(f"{bad} (for {there.text})")


def location_root(location: Location) -> dict[str, str | None]:
    """What the rule sees as `location`: texts as they are, not escaped (`url_quote` escapes one)."""
    if location.kind is LocationKind.FILE:
        path = location.path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return {"kind": "file", "text": location.text, "name": path.rpartition("/")[2], "path": path, "bucket": None, "key": None}
    scheme, _, rest = location.text.partition("://")
    bucket, _, key = rest.partition("/")
    return {
        "kind": scheme,
        "text": location.text,
        "name": key.rpartition("/")[2],
        "path": f"/{key}",
        "bucket": bucket,
        "key": key,
    }


def _compiled(node: Node) -> tuple[RuleCompiler, Run]:
    compiler = RuleCompiler(Context(), with_places=True)
    compiler.root("location")
    run = compiler.rule(node, _WHERE, compiler.roots.inner()).run
    return compiler, run


@lru_cache(maxsize=64)
def _run(rule: str) -> Callable[[dict[str, str | None]], Any]:
    """With places, so that what fails has a name."""
    compiler, run = _compiled(Node(rule, _NOWHERE))
    slot = compiler.roots.slots["location"].index

    def url_of(root: dict[str, str | None]) -> Any:
        slots: list[Any] = [None] * compiler.size
        slots[TRACE_SLOT] = Trace(compiler.steps)
        slots[slot] = root
        return run(slots)

    return url_of


def _refused(what: str) -> Refusal:
    return Refusal(reason=FailReason.INVALID, where=_WHERE, what=what)
