"""A whole mapping, `call:` or `manifest:`: let, refuse, when and the fields, compiled and in their order."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tunerd.mapping.functions import Code, Run
from tunerd.mapping.rule_reader import key_location
from tunerd.mapping.rules import RuleCompiler
from tunerd.mapping.scope import Broken, NameScope, nearest
from tunerd.mapping.trace import Misfit, RuleRef
from tunerd.yaml_location import Node


@dataclass(slots=True)
class RuleSet:
    """A compiled `call:` or `manifest:`."""

    lets: list[tuple[int, Run]] = field(default_factory=list)
    refuse: list[tuple[str, Run, RuleRef]] = field(default_factory=list)
    when: Run | None = None
    when_step: RuleRef | None = None
    not_call: list[Run] = field(default_factory=list)
    """One of them is true: the document is known to be no call (or no recording)."""
    strict: bool = False
    """A document for which neither `when` nor `not_call` is true is refused, not left out."""
    fields: list[tuple[str, Run]] = field(default_factory=list)
    steps: dict[str, RuleRef] = field(default_factory=dict)
    """The rule of each field."""
    names: NameScope = field(default_factory=NameScope)
    """What rules outside the mapping see (strategies, agent): roots and top-level let names."""

    def let(self, slots: list[Any]) -> None:
        for index, run in self.lets:
            slots[index] = run(slots)

    def let_guarded(self, slots: list[Any]) -> bool:
        """In a traced run: a let that fails breaks its slot, and so the fields that read it, not the call at once. Whether
        one failed."""
        failed = False
        for index, run in self.lets:
            try:
                slots[index] = run(slots)
            except Misfit as misfit:
                slots[index], failed = Broken(misfit), True
        return failed


def compile_rules(
    compiler: RuleCompiler,
    node: Node,
    path: str,
    fields: Collection[str],
    *,
    times: Collection[str],
    transcript: str = "",
    strict: bool = False,
    hints: Mapping[str, str] = MappingProxyType({}),
    identities: Collection[str] = (),
    values: Collection[str] = (),
    read_by: Sequence[Node | None] = (),
) -> RuleSet:
    """Compile `let`, `refuse`, `when` and the fields, whatever their order in the file. `times`: fields that are read as
    instants; `transcript`: the field whose blocks are rows; `strict`: as RuleSet.strict, which `not_call` implies; `hints`: what
    to say to unknown fields; `identities`: fields that tell calls or recordings apart; `values`: those that are mappings of such;
    `read_by`: rules outside the mapping that do."""
    made = RuleSet(names=compiler.roots.inner(), strict=strict)
    members = compiler.members(node, path)
    if members is None:
        return made
    lets: list[tuple[int, Code]] = []
    compiler.lets(members, made.names, path, lets, [*read_by, *(members.get(name) for name in identities)])
    made.lets = [(index, code.run) for index, code in lets]
    if (refuse := members.get("refuse")) is not None:
        for reason, rule in (compiler.members(refuse, f"{path}.refuse") or {}).items():
            at = f"{path}.refuse.{reason}"
            step = compiler.step(rule, at)
            made.refuse.append((reason, compiler.rule(rule, at, made.names).run, step))
    if (rule_when := members.get("when")) is not None and rule_when.value is not None:
        made.when_step = compiler.step(rule_when, f"{path}.when")
        made.when = compiler.rule(rule_when, f"{path}.when", made.names).run
    for at, rule in alternatives(members.get("not_call"), f"{path}.not_call"):
        made.not_call.append(compiler.rule(rule, at, made.names).run)
    made.strict = strict or bool(made.not_call)
    for name, rule in members.items():
        at = f"{path}.{name}"
        if name in ("let", "refuse", "when", "not_call"):
            continue
        if name not in fields:
            compiler.problem(key_location(node, name), at, f"unknown field `{name}`{hints.get(name) or nearest(name, fields)}")
            continue
        if rule.value is None:
            continue
        made.steps[name] = compiler.step(rule, at)
        if name in values:
            code = compiler.values(rule, at, made.names)
        elif name in identities:
            code = compiler.identity(rule, at, made.names)
        else:
            code = compiler.rule(rule, at, made.names, rows=name == transcript)
        made.fields.append((name, (compiler.as_time(code, rule, at) if name in times else code).run))
    return made


def alternatives(node: Node | None, path: str) -> list[tuple[str, Node]]:
    """`not_call:` as one rule, or as a list of rules of which one has to be true (a preset's come after a source's own)."""
    if node is None or node.value is None:
        return []
    if not isinstance(node.value, tuple):
        return [(path, node)]
    return [each for at, item in enumerate(node.value) for each in alternatives(item, f"{path}[{at}]")]
