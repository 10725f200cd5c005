"""`tunerd test`: check the examples in the configuration against its rules."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from tunerd.call import Document, Form, RefusedDocument
from tunerd.cli.compiling import compiled_or_exit, config_or_exit
from tunerd.cli.input_files import read, would_read
from tunerd.cli.options import FILE, config_option, exit_bad_config
from tunerd.cli.terminal import say, style
from tunerd.config import Config, Example, LedgerConfig
from tunerd.loading.tests_section import read_examples_file
from tunerd.visible import visible
from tunerd.workbench.compare import lines
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.example_runs import ExampleResult, inline_documents, origin_of, run
from tunerd.workbench.shown import count, where, wrapped
from tunerd.yaml_location import ConfigError

_EPILOG = """\b
Example, in the configuration (or in a file of its own, named with --tests):
  tests:
    - name: a call with a tool
      input_file: tool.json        # or input: {...}, the document
      expect:                      # JMESPath over the payload: value
        call_id: c-1
        length(transcript_with_tool_calls): 3
        transcript_with_tool_calls[1].tool.name: book_table
    - name: drafts are ignored
      input: {id: c-2, draft: true}
      expect_ignored: true

\b
  tunerd test -c config.yaml
  tunerd test -c config.yaml tool     only examples with `tool` in their name

Neither a key nor a ledger nor a network is needed. Exit code: 0 all pass; 1 some fail, or there is none;
2 usage; 78 an invalid configuration or example.
"""


@click.command("test", epilog=_EPILOG)
@config_option
@click.option("--tests", "file", type=FILE, metavar="FILE", help="Check the examples in this file instead.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def command(config: Path, file: Path | None, names: tuple[str, ...]) -> None:
    """Check the examples: compare how the rules map a document with what is expected."""
    loaded = config_or_exit(config)
    examples = _examples(loaded, file)
    chosen = [one for one in examples if not names or any(name.casefold() in one.name.casefold() for name in names)]
    if not chosen:
        what = "no example has this name" if examples else "there are no examples; add `tests:` (see tunerd test --help)"
        say(f"tunerd: {what}", err=True)
        sys.exit(1)
    failed = 0
    runner = _ExampleRunner(loaded)
    for example in chosen:
        result = runner.result(example)
        failed += not result.passed
        for line in _drawn(result):
            say(line)
    passed = len(chosen) - failed
    colour = "red" if failed else "green"
    text = f"{count(passed, 'example passes', 'examples pass')}" + (f", {failed:,} failed" if failed else "")
    say(style(text, fg=colour))
    sys.exit(1 if failed else 0)


def _examples(config: Config, file: Path | None) -> Sequence[Example]:
    if file is None:
        return config.tests
    try:
        return read_examples_file(file, config.sources)
    except ConfigError as exc:
        exit_bad_config(exc)


class _ExampleRunner:
    """The rules for each request form that an example uses."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._compiled: dict[str | None, dict[str, CompiledSource]] = {}

    def result(self, example: Example) -> ExampleResult:
        # Without `form:` the form is that of the configuration or of its key, as for `run`; without a key the lenient one.
        if example.form not in self._compiled:
            form = Form(example.form) if example.form else None
            self._compiled[example.form] = compiled_or_exit(self._config, form)
        compiled = self._compiled[example.form][example.source]
        if example.file and not would_read(compiled.source, os.path.join(compiled.source.path, example.file)):
            filtered = "include, exclude or recursive of the source exclude it"
            return ExampleResult(example, problems=[f"`run` does not read a file {example.file}: {filtered}"])
        try:
            return run(example, compiled, _documents(example, compiled, self._config.ledger))
        except (OSError, ValueError) as exc:
            why = "there is no such file" if isinstance(exc, FileNotFoundError) else getattr(exc, "strerror", None) or exc
            return ExampleResult(example, problems=[f"input_file {example.input_file}: {why}"])


def _documents(example: Example, compiled: CompiledSource, ledger: LedgerConfig) -> Sequence[Document | RefusedDocument]:
    if example.input_file is None:
        return inline_documents(example, compiled.source)
    name = os.path.basename(example.input_file)
    return [
        Document(
            origin=origin_of(example, compiled.source, one.origin.offset, one.origin.length, name),
            raw=one.raw,
            value=one.value,
            settled_at=0.0,
            spooled=one.spooled,
        )
        if isinstance(one, Document)
        else one
        for one in read(compiled.source, Path(example.input_file), ledger=ledger)
    ]


def _drawn(result: ExampleResult) -> Iterator[str]:
    name = visible(result.example.name)
    if result.passed:
        yield f"{style('ok', fg='green')}    {name}"
        return
    yield f"{style('FAIL', fg='red')}  {name}  ({where(result.example.location)})"
    for problem in result.problems:
        yield from wrapped(problem, "        ")
    for difference in result.differences:
        yield from lines(difference, "expected", "got", "        ")
    for hint in result.hints:
        yield from wrapped(hint, "          ", "        ")
