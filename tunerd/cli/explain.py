"""`tunerd explain`: how the rules map files, rule by rule. Nothing is sent, and no ledger is needed."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import click

from tunerd.call import Document, Form, Refusal, RefusedDocument
from tunerd.cli.compiling import FORMS, compiled_or_exit, config_or_exit, preset_or_exit
from tunerd.cli.input_files import cannot_read, files_of, read, source_of, wanted_by, wanted_by_name, why_not_read
from tunerd.cli.options import FILE, config_option, json_option
from tunerd.cli.terminal import say, say_plain_json
from tunerd.config import Config, LedgerConfig, Source
from tunerd.config.settings import keys_of
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.evaluation import Evaluation, evaluate, units
from tunerd.workbench.report import lines, request_lines
from tunerd.workbench.request import RequestPreview, request_of
from tunerd.workbench.summary import Ids, Summary
from tunerd.workbench.view import View, request_json, view_of

_INCLUDE: Final = keys_of(Source)["include"].default
_EPILOG = """\b
Examples:
  tunerd explain call.json                  with your configuration
  tunerd explain --preset vapi call.json    a preset alone, no configuration
  tunerd explain --body call.json           the request that would be posted
  tunerd explain --rules call.json | less   every rule, with its functions
  tunerd explain --summary /var/spool/calls how often each field is filled

The output contains the content of the files: take care who sees it. A recording URL that
another file has yet to provide is replaced by a stand-in, and marked as one. Exit code:
0 every document is mapped, or ignored on purpose; 1 some are refused, cannot be read, or
share a call id with different starts; 2 usage; 78 an invalid configuration.
"""


@click.command("explain", epilog=_EPILOG)
@config_option
@click.option("--preset", metavar="NAME", help="Use this preset alone; the configuration is not read.")
@click.option("--source", metavar="NAME", help="Use the rules of this source (default: the source that would read the file).")
@click.option("--form", type=FORMS, help="The request form (default: that of the configuration or its key).")
@click.option("--body", is_flag=True, help="Show the exact request of each call, with the key hidden.")
@click.option("--rules", is_flag=True, help="Show every rule: whether it matched, and what its functions took and gave.")
@click.option("--all", "whole", is_flag=True, help="Shorten nothing.")
@click.option("--summary", is_flag=True, help="Only count over all files: filled fields, values missing from tables, refusals.")
@json_option("Print the result as JSON.")
@click.argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...")
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
    """Show how the rules map FILE, field by field: the rule, its value, or why there is none. Nothing is sent.

    For a directory, the files in it that a source would read are mapped.
    """
    wanted = Form(form) if form else None
    rule_set = _RuleSet(None, {"": preset_or_exit(preset, wanted)}) if preset else _configured(config, wanted)
    evaluations = _Evaluations(rule_set, files, source)
    output: _ExplainOutput = _Totals(as_json) if summary else _Json(rules) if as_json else _Text(rules, body, whole)
    ids, is_failed = Ids(), False
    for evaluation in evaluations:
        view = view_of(evaluation)
        ids.add(view)
        is_failed |= view["outcome"] == "refused"
        call = evaluation.explanation.mapped.call if evaluation.explanation else None
        request = request_of(call, evaluation.compiled) if body and call is not None else None
        is_failed |= isinstance(request, Refusal)
        output.add(view, request)
    output.end(ids)
    sys.exit(1 if is_failed or ids.conflicts or evaluations.unreadable else 0)


class _RuleSet:
    """The compiled rules, and which of them a file is for."""

    def __init__(self, config: Config | None, compiled: dict[str, CompiledSource]) -> None:
        self._config = config
        self._compiled = compiled

    def compiled_for(self, file: Path, named: str | None) -> CompiledSource:
        if self._config is None:
            return self._compiled[""]
        return self._compiled[source_of(self._config, file, named).name]

    def wanted(self, named: str | None) -> Callable[[Path], bool]:
        """Which files of a directory."""
        return wanted_by_name(_INCLUDE) if self._config is None else wanted_by(self._config, named)

    @property
    def is_configured(self) -> bool:
        return self._config is not None

    @property
    def ledger(self) -> LedgerConfig | None:
        return None if self._config is None else self._config.ledger


def _configured(path: Path, form: Form | None) -> _RuleSet:
    config = config_or_exit(path)
    return _RuleSet(config, compiled_or_exit(config, form))


class _Evaluations:
    """The evaluations of all files; what cannot be read is reported on stderr and remembered."""

    def __init__(self, rule_set: _RuleSet, files: tuple[Path, ...], source: str | None) -> None:
        self._rule_set = rule_set
        self._files = files
        self._source = source
        self.unreadable = False

    def __iter__(self) -> Iterator[Evaluation]:
        gathered: dict[str, tuple[CompiledSource, list[Document | RefusedDocument]]] = {}
        not_read: Counter[str] = Counter()
        for file, is_named in files_of(self._files, self._rule_set.wanted(self._source)):
            compiled = self._rule_set.compiled_for(file, self._source)
            why = why_not_read(compiled.source, file) if self._rule_set.is_configured else None
            if why is not None and is_named:
                say(f"tunerd: `run` does not read {file}: {why}. The rules would map it as follows", err=True)
            elif why is not None:
                not_read[why] += 1
                continue
            try:
                for found in read(compiled.source, file, ledger=self._rule_set.ledger):
                    if compiled.mapping.gathers:  # the other documents of its call may be in other files
                        gathered.setdefault(compiled.source.name, (compiled, []))[1].append(found)
                        continue
                    for unit in units(compiled, [found]):
                        yield evaluate(compiled, unit)
            except (OSError, ValueError) as exc:
                cannot_read(file, exc)
                self.unreadable = True
        for why, times in not_read.items():
            say(f"tunerd: {times:,} files are skipped, as `run` does not read them: {why}", err=True)
        for compiled, reads in gathered.values():
            for unit in units(compiled, reads):
                yield evaluate(compiled, unit)


class _ExplainOutput(Protocol):
    """How the views of the documents are shown."""

    def add(self, view: View, request: RequestPreview | Refusal | None) -> None: ...
    def end(self, ids: Ids) -> None: ...


class _Text:
    def __init__(self, rules: bool, body: bool, whole: bool) -> None:
        self._rules = rules
        self._body = body
        self._whole = whole
        self._is_first = True

    def add(self, view: View, request: RequestPreview | Refusal | None) -> None:
        if not self._is_first:
            say()
        self._is_first = False
        if request is None or self._rules:
            for line in lines(view, rules=self._rules, whole=self._whole):
                say(line)
        if request is not None:
            for line in request_lines(request, pretty=sys.stdout.isatty()):
                say(line)

    def end(self, ids: Ids) -> None:
        for line in ids.lines():
            say(line, err=self._body)


class _Json:
    def __init__(self, rules: bool) -> None:
        self._rules = rules
        self._documents: list[dict[str, Any]] = []

    def add(self, view: View, request: RequestPreview | Refusal | None) -> None:
        document = {name: value for name, value in view.items() if self._rules or name != "rules"}
        if request is not None:
            document["request"] = request_json(request)
        self._documents.append(document)

    def end(self, ids: Ids) -> None:
        say_plain_json({"version": 1, "documents": self._documents, "shared_call_ids": ids.shared()})


class _Totals:
    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._summary = Summary()

    def add(self, view: View, _: RequestPreview | Refusal | None) -> None:
        self._summary.add(view)

    def end(self, ids: Ids) -> None:
        if self._as_json:
            say_plain_json({"version": 1, **self._summary.as_json(), "shared_call_ids": ids.shared()})
            return
        for line in (*self._summary.lines(), *ids.lines()):
            say(line)
