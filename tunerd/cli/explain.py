"""`tunerd explain`: what the rules make of files, rule by rule. Nothing is sent, no ledger is needed."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from tunerd.call import Document, Form, RefusedDocument
from tunerd.cli.benches import (
    FORMS,
    benches_or_exit,
    cannot_read,
    config_or_exit,
    files_of,
    fits,
    plain_output,
    preset_or_exit,
    wanted_by,
)
from tunerd.cli.documents import read, source_of, why_not_read
from tunerd.cli.options import config_option
from tunerd.cli.terminal import say, say_plain_json
from tunerd.config import Config, Source
from tunerd.config.settings import keys_of
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.evaluation import Evaluation, evaluate, units

_EPILOG = """\b
Examples:
  tunerd explain call.json                  with your configuration
  tunerd explain --preset vapi call.json    a preset alone, nothing configured
  tunerd explain --body call.json           the request that would be posted
  tunerd explain --rules call.json | less   every rule, what functions got
  tunerd explain --summary /var/spool/calls how often each field is filled

It shows what stands in the files: mind who sees it. A recording URL that another file has yet to bring is
replaced by a stand-in, and said to be one. Exit code: 0 every document is mapped or left out on purpose;
1 some are refused, cannot be read, or have one call id and different starts; 2 usage; 78 a bad configuration.
"""


@click.command("explain", epilog=_EPILOG)
@config_option
@click.option("--preset", metavar="NAME", help="Try this preset alone; the configuration is not read.")
@click.option("--source", help="The source whose rules to use; by default the one that would read the file.")
@click.option("--form", type=FORMS, help="The request form; by default that of the configuration or its key.")
@click.option("--body", is_flag=True, help="Show the exact request of each call (the key hidden).")
@click.option("--rules", is_flag=True, help="Show every rule: hit or missed, and what its functions got and gave.")
@click.option("--all", "whole", is_flag=True, help="Shorten nothing.")
@click.option("--summary", is_flag=True, help="Only count over all files: fields filled, values no table knew, refusals.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
def command(
    config: Path,
    preset: str | None,
    source: str | None,
    form: str | None,
    body: bool,
    rules: bool,
    whole: bool,
    summary: bool,
    as_json: bool,
    files: tuple[Path, ...],
) -> None:
    """Show what the rules make of FILE, field by field: its rule, its value, or why there is none. Sends nothing.

    A directory stands for the files in it that a source would read.
    """
    wanted = Form(form) if form else None
    rule_set = _RuleSet(None, {"": preset_or_exit(preset, wanted)}) if preset else _configured(config, wanted)
    evaluations = _Evaluations(rule_set, files, source)
    if summary:
        shared, failed = _summarise(evaluations, as_json=as_json)
    elif as_json:
        shared, failed = _print_json(evaluations, rules=rules, body=body)
    else:
        shared, failed = _print(evaluations, rules=rules, body=body, whole=whole)
    sys.exit(1 if failed or shared or evaluations.unreadable else 0)


class _RuleSet:
    """The rules at hand, and which of them a file is for."""

    def __init__(self, config: Config | None, compiled: dict[str, CompiledSource]) -> None:
        self._config = config
        self._compiled = compiled

    def compiled_for(self, file: Path, named: str | None) -> CompiledSource:
        if self._config is None:
            return self._compiled[""]
        return self._compiled[source_of(self._config, file, named).name]

    def wanted(self, named: str | None) -> Callable[[Path], bool]:
        """Which files of a directory."""
        return fits(keys_of(Source)["include"].default) if self._config is None else wanted_by(self._config, named)

    @property
    def is_configured(self) -> bool:
        return self._config is not None


def _configured(path: Path, form: Form | None) -> _RuleSet:
    config = config_or_exit(path)
    return _RuleSet(config, benches_or_exit(config, form))


class _Evaluations:
    """One evaluation after the other; what cannot be read is told on stderr and remembered."""

    def __init__(self, rule_set: _RuleSet, files: tuple[Path, ...], source: str | None) -> None:
        self._desk = rule_set
        self._files = files
        self._source = source
        self.unreadable = False

    def __iter__(self) -> Iterator[Evaluation]:
        gathered: dict[str, tuple[CompiledSource, list[Document | RefusedDocument]]] = {}
        not_read: Counter[str] = Counter()
        for file, is_named in files_of(self._files, self._desk.wanted(self._source)):
            compiled = self._desk.compiled_for(file, self._source)
            why = why_not_read(compiled.source, file) if self._desk.is_configured else None
            if why is not None and is_named:
                say(f"tunerd: `run` does not read {file}: {why}; this is what its rules would make of it", err=True)
            elif why is not None:
                not_read[why] += 1
                continue
            try:
                for found in read(compiled.source, file):
                    if compiled.mapping.gathers:  # the other documents of its call may stand in other files
                        gathered.setdefault(compiled.source.name, (compiled, []))[1].append(found)
                        continue
                    for unit in units(compiled, [found]):
                        yield evaluate(compiled, unit)
            except (OSError, ValueError) as exc:
                cannot_read(file, exc)
                self.unreadable = True
        for why, times in not_read.items():
            say(f"tunerd: {times:,} files are left out, as `run` leaves them out: {why}", err=True)
        for compiled, reads in gathered.values():
            for unit in units(compiled, reads):
                yield evaluate(compiled, unit)


def _print(evaluations: _Evaluations, *, rules: bool, body: bool, whole: bool) -> tuple[bool, bool]:
    from tunerd.call import Refusal
    from tunerd.workbench.report import lines, outcome_of, request_lines
    from tunerd.workbench.request import request_of
    from tunerd.workbench.summary import Ids

    ids, failed, first = Ids(), False, True
    for evaluation in evaluations:
        if not first:
            say()
        first = False
        ids.add(evaluation)
        failed = failed or outcome_of(evaluation) == "refused"
        call = evaluation.explanation.mapped.call if evaluation.explanation else None
        if not body or call is None or rules:
            for line in lines(evaluation, rules=rules, whole=whole):
                say(line)
        if body and call is not None:
            request = request_of(call, evaluation.compiled)
            failed = failed or isinstance(request, Refusal)
            for line in request_lines(request, pretty=not plain_output()):
                say(line)
    for line in ids.lines():
        say(line, err=body)
    return ids.conflicts, failed


def _print_json(evaluations: _Evaluations, *, rules: bool, body: bool) -> tuple[bool, bool]:
    from tunerd.call import Refusal
    from tunerd.workbench.plain import as_json, request_json
    from tunerd.workbench.report import outcome_of
    from tunerd.workbench.request import request_of
    from tunerd.workbench.summary import Ids

    ids, failed, documents = Ids(), False, list[dict[str, Any]]()
    for evaluation in evaluations:
        ids.add(evaluation)
        failed = failed or outcome_of(evaluation) == "refused"
        made = as_json(evaluation, rules=rules)
        call = evaluation.explanation.mapped.call if evaluation.explanation else None
        if body and call is not None:
            request = request_of(call, evaluation.compiled)
            failed = failed or isinstance(request, Refusal)
            made["request"] = request_json(request)
        documents.append(made)
    say_plain_json({"version": 1, "documents": documents, "shared_call_ids": ids.shared()})
    return ids.conflicts, failed


def _summarise(evaluations: _Evaluations, *, as_json: bool) -> tuple[bool, bool]:
    from tunerd.workbench.summary import Ids, Summary

    ids, summary = Ids(), Summary()
    for evaluation in evaluations:
        ids.add(evaluation)
        summary.add(evaluation)
    if as_json:
        say_plain_json({"version": 1, **summary.as_json(), "shared_call_ids": ids.shared()})
    else:
        for line in (*summary.lines(), *ids.lines()):
            say(line)
    return ids.conflicts, summary.outcomes["refused"] > 0


def _json(value: Any) -> str:
    """Whatever a document held: lone surrogates as escapes, and no upset over huge numbers."""
    return json.dumps(value, indent=2)
