"""A source's rules, its preset's underneath -> compiled, or every problem at once.

This file says which fields and strategies a call and a recording have. rules.py compiles one rule, source.py runs the result.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from typing import Final

from tunerd.config import Destination, Source
from tunerd.mapping import presets
from tunerd.mapping.functions import Context, Run
from tunerd.mapping.functions.times import zone_of
from tunerd.mapping.gathering import DocumentRules, compile_documents, part_names
from tunerd.mapping.manifest_facts import ManifestFacts, places_of
from tunerd.mapping.match_values import names_in
from tunerd.mapping.patterns import BadPattern, Pattern, compile_pattern
from tunerd.mapping.published import url_rule_problems
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.ruleset import RuleSet, compile_rules
from tunerd.mapping.strategy_compiler import StrategyCompiler, StrategyRules, asked
from tunerd.mapping.trace import RuleRef
from tunerd.mapping.values import RuleError
from tunerd.record import positional_record
from tunerd.tuner_fields import RECORDING_FIELDS, ROWS, RULE_FIELDS
from tunerd.yaml_location import ConfigError, Node, Problem, YamlLocation

CALL_IDENTITIES: Final = ("call_id", "sip_call_id", "caller_phone_number", "recipient", "recording_multi_channel_url")
"""Fields that tell calls, people and recordings apart."""
MANIFEST_IDENTITIES: Final = ("key", "url", "id", "match")
REQUIRED: Final = ("call_id", "call_type", ROWS)
"""A rule has to give them; the times may come from the rows."""
_CALL_TIMES: Final = frozenset({"start_timestamp", "end_timestamp"})
_MANIFEST_TIMES: Final = frozenset({"started_at", "expires_at"})
_HINTS: Final = {
    "call_type": ": for example `call_type: {const: phone_call}`",
    "recording_url": ": the recording has its own place: `recording: [{url: ...}]` beside `call:`",
    "recording_file_extension": ": tunerd sets it where `audio:` of the source says that audio is uploaded",
}
_FIXED_ROOTS: Final = ("doc", "docs", "file", "env")


@positional_record
class Compiled:
    """Everything of a source, in one of the two forms (bare, or with places)."""

    size: int
    """Slots of a run."""
    roots: Mapping[str, int]
    """The root names that some rule reads, and their slots."""
    call: RuleSet | None
    manifest: RuleSet | None
    strategies: Sequence[StrategyRules]
    agent: Run | None
    steps: Sequence[RuleRef]
    documents: Run | None = None
    """Gives the list of documents in what was read."""
    gather: DocumentRules | None = None
    """Of a source that gathers: what is asked of each document. Then `group` holds `call` and what belongs to it."""
    group: "Compiled | None" = None
    """Of a source that gathers: the rules over all documents of a call."""
    complete: Run | None = None
    complete_reads_docs: bool = False
    """`complete` may become true with a document that is no part."""


class Builder:
    """Compiles one source; twice, so kept apart from what runs."""

    def __init__(
        self,
        source: Source,
        destination: Destination | None,
        manifests: Mapping[str, ManifestFacts],
        environ: Mapping[str, str],
        path: str,
    ) -> None:
        self.source = source
        self.destination = destination
        self.rules = presets.effective(source)
        self.path_groups: Pattern | None = None
        self.places = places_of(source, self.rules.recording)
        """Where recordings of its calls may be."""
        self.manifest = manifests.get(source.name, ManifestFacts(places=self.places))
        """Of the recordings that the source itself brings."""
        self.match = frozenset[str]()
        """Names of the values that its recordings have in common with their calls."""
        self._strategies = StrategyCompiler(source, self.places, manifests)
        self._environ = dict(environ)
        self._path = path
        node = self.rules.call or self.rules.manifest
        self._location = node.location if node is not None else YamlLocation("", 1, 1)

    def compile(self, *, with_places: bool) -> Compiled:
        """Raises ConfigError with every problem."""
        problems: list[Problem] = list(self.rules.problems)
        context = Context(self._zone(problems))
        compiler = RuleCompiler(context, with_places=with_places, unknown_roles=self.rules.unknown_roles)
        self._roots(compiler, ("doc",), problems)
        documents = None
        if self.source.documents is not None:
            documents = compiler.rule(self.source.documents, "documents", compiler.roots.inner()).run
        gather = group = made = None
        if (node := self.rules.gather) is not None:
            if self.rules.call is None:
                problems.append(
                    Problem(location=node.location, path=f"{self._path}.gather", message="has no use without `call:`")
                )
            gather = compile_documents(compiler, node)
            whole = RuleCompiler(context, with_places=with_places, unknown_roles=self.rules.unknown_roles)
            self._roots(whole, ("docs", *part_names(node)), problems)
            group = self._group(whole, node, problems)
        elif self.rules.call is not None:
            made = self._call(compiler, self.rules.call, problems)
        manifest = None
        if (node := self.rules.manifest) is not None:
            manifest = compile_rules(
                *(compiler, node, "manifest", frozenset(RECORDING_FIELDS)),
                times=_MANIFEST_TIMES,
                strict=self.rules.strict_manifest,
                identities=MANIFEST_IDENTITIES,
                values=("match",),
            )
            self.match = names_in(node.value.get("match") if isinstance(node.value, dict) else None) or frozenset()
            needs_key = not (self.manifest.is_nearest and self.manifest.has_start)
            required = [*(["key"] if needs_key else []), *([] if {"absent_when", "audio"} & manifest.steps.keys() else ["url"])]
            self._required(manifest, node, required, "manifest", problems)
        if self.rules.call is None and manifest is None and not problems:
            problems.append(self._problem("", "gives neither `call:` nor `manifest:` rules, and has no preset"))
        self._own(compiler, problems)
        if self.source.audio.url is not None:
            problems += url_rule_problems(self.source.audio.url, self._path)
        if problems:
            raise ConfigError(problems)
        call, strategies, agent = made or (None, (), None)
        used = _used(compiler)
        return Compiled(
            *(compiler.size, used, call, manifest, strategies, agent, compiler.steps),
            gather=gather,
            group=group,
            documents=documents,
        )

    def _group(self, compiler: RuleCompiler, node: Node, problems: list[Problem]) -> Compiled | None:
        """What is asked of all documents of a call together."""
        complete = node.value.get("complete") if isinstance(node.value, dict) else None
        run = None
        if complete is not None and complete.value is not None:
            run = compiler.rule(complete, "gather.complete", compiler.roots.inner()).run
        reads_docs = "docs" in compiler.roots.used
        made = self._call(compiler, self.rules.call, problems) if self.rules.call is not None else (None, (), None)
        self._own(compiler, problems)
        call, strategies, agent = made
        return Compiled(
            *(compiler.size, _used(compiler), call, None, strategies, agent, compiler.steps),
            complete=run,
            complete_reads_docs=reads_docs,
        )

    def _call(
        self, compiler: RuleCompiler, node: Node, problems: list[Problem]
    ) -> tuple[RuleSet, Sequence[StrategyRules], Run | None]:
        outside = [asked(rule) for rule in self.rules.recording]
        call = compile_rules(
            *(compiler, node, "call", RULE_FIELDS),
            times=_CALL_TIMES,
            transcript=ROWS,
            strict=self.rules.strict_call,
            hints=_HINTS,
            identities=CALL_IDENTITIES,
            read_by=[*outside, self.rules.agent],
        )
        self._required(call, node, REQUIRED, "call", problems)
        strategies = [
            self._strategies.compile(compiler, rule, call.names, f"recording[{at}]")
            for at, rule in enumerate(self.rules.recording)
        ]
        return call, strategies, self._agent(compiler, call, problems)

    def _own(self, compiler: RuleCompiler, problems: list[Problem]) -> None:
        """The compiler's problems, with the source's path before theirs."""
        problems += [Problem(location=p.location, path=f"{self._path}.{p.path}", message=p.message) for p in compiler.problems]

    def _zone(self, problems: list[Problem]) -> tzinfo:
        try:
            return zone_of(self.source.timezone)
        except RuleError as error:
            problems.append(self._problem("timezone", str(error)))
            return UTC

    def _roots(self, compiler: RuleCompiler, names: Sequence[str], problems: list[Problem]) -> None:
        """The root names; `names`: those that hold documents."""
        for name in names:
            compiler.root(name)
        compiler.root("file")
        compiler.root("env", self._environ)
        if self.source.path_groups is None:
            return
        try:
            self.path_groups = compile_pattern(self.source.path_groups)
        except BadPattern as error:
            problems.append(self._problem("path_groups", str(error)))
            return
        for name in self.path_groups.names:
            if not re.fullmatch(r"[a-z_][a-z0-9_]*", name, re.ASCII) or name in _FIXED_ROOTS:
                what = f"the group `{name}` needs a name of a-z, 0-9, _ (not doc, docs, file, env)"
                if (problem := self._problem("path_groups", what)) not in problems:
                    problems.append(problem)
            compiler.root(name)

    def _agent(self, compiler: RuleCompiler, call: RuleSet, problems: list[Problem]) -> Run | None:
        if self.rules.agent is not None:
            return compiler.identity(self.rules.agent, "agent", call.names).run
        if self.destination is not None and not self.source.agent_remote_identifier:
            problems.append(self._problem("agent", "no agent_remote_identifier in `tuner:`, and no `agent:` rule here"))
        return None

    def _required(self, mapping: RuleSet, node: Node, names: Sequence[str], path: str, problems: list[Problem]) -> None:
        for name in names:
            if name not in mapping.steps:
                what = f"no rule for `{name}`, which every call needs{_HINTS.get(name, '')}"
                if path == "manifest":
                    what = f"no rule for `{name}`, which every recording needs"
                problems.append(Problem(location=node.location, path=f"{self._path}.{path}", message=what))

    def _problem(self, key: str, what: str) -> Problem:
        return Problem(location=self._location, path=f"{self._path}.{key}" if key else self._path, message=what)


def _used(compiler: RuleCompiler) -> dict[str, int]:
    """The root names that some rule reads, and their slots."""
    roots = compiler.roots
    return {name: slot.index for name, slot in roots.slots.items() if name in roots.used and name != "env"}
