"""`tunerd init`: a first configuration, based on real files if there are some."""

import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import click

from tunerd.cli.input_files import cannot_read, files_of, read, wanted_by_name, would_read
from tunerd.cli.options import FILE
from tunerd.cli.terminal import say, say_lines
from tunerd.config import Config, Source
from tunerd.config.settings import keys_of
from tunerd.loading.config_file import read_text
from tunerd.visible import visible
from tunerd.workbench.compiled import compile_config
from tunerd.workbench.evaluation import evaluate, units
from tunerd.workbench.file_groups import SampleFile
from tunerd.workbench.shown import count, wrapped
from tunerd.workbench.starter import Starter, starter
from tunerd.workbench.view import estimated, outcome_of
from tunerd.yaml_location import ConfigError

_EPILOG = """\b
Examples:
  tunerd init > config.yaml
  tunerd init --from call.json --from EG_a1b2.json -o config.yaml
  tunerd init --from /var/spool/calls --workspace 42 -o config.yaml

The configuration is printed on stdout, or written to -o FILE. What was recognised, mapped and guessed is printed
on stderr. `tunerd check` accepts the configuration; comments mark what you have to change. Exit code: 0; 1 some
of the files are not mapped by it, or cannot be read; 2 usage.
"""
_FILES: Final = 200
_DOCUMENTS: Final = 500
_SHOWN: Final = 40
_INCLUDE: Final = (*keys_of(Source)["include"].default, "*.form")


@click.command("init", epilog=_EPILOG)
@click.option(
    "--from",
    "files",
    multiple=True,
    type=FILE,
    metavar="FILE",
    help="A real file, or a directory with such files (repeatable).",
)
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write to this file; an existing file is not overwritten.")
@click.option("--workspace", type=click.IntRange(min=1), help="Number of your workspace in Tuner.")
@click.option("--agent", help="Name of your agent in Tuner.")
@click.argument("more", nargs=-1, type=FILE, metavar="[FILE]...")
def command(
    files: tuple[Path, ...], output: Path | None, workspace: int | None, agent: str | None, more: tuple[Path, ...]
) -> None:
    """Write a commented configuration: a short one, or one that maps the files named with --from.

    The platform of each file is recognised. For unknown formats, rules are proposed from the names of fields, and guesses are
    listed.
    """
    if more and not files:
        raise click.UsageError("name files with --from FILE")
    if output is not None and output.exists():
        raise click.UsageError(f"{output} exists; choose another file")
    found, failed = _read(*files, *more)
    if (files or more) and not any(file.reads for file in found):
        say("tunerd: these files contain nothing to read", err=True)
        sys.exit(1)
    made = starter(found, os.environ, workspace_id=workspace, agent=agent)
    if found and "- name:" not in made.text:
        _tell(made, [])
        say("tunerd: no source can be made of these files; run `tunerd init` alone for a configuration to start from", err=True)
        sys.exit(1)
    results, estimates, good = _tried(made.text, output, found)
    made.unsure += estimates
    _tell(made, results)
    if output is None:
        say_lines(made.text.removesuffix("\n"))
    else:
        output.write_text(made.text, "utf-8")
        say(f"{output} is written. Review it, then run: tunerd check -c {output}", err=True)
    sys.exit(1 if failed or not good else 0)


def _read(*paths: Path) -> tuple[list[SampleFile], bool]:
    found: list[SampleFile] = []
    failed = False
    source = Source(name="init", path="/")
    for path, _ in islice(files_of(paths, wanted_by_name(_INCLUDE)), _FILES):
        try:
            found.append(SampleFile(os.path.abspath(path), list(islice(read(source, path), _DOCUMENTS))))
        except (OSError, ValueError) as exc:
            cannot_read(path, exc)
            failed = True
    return found, failed


def _tried(text: str, output: Path | None, files: Sequence[SampleFile]) -> tuple[list[str], list[str], bool]:
    """How the configuration maps the same files, one line each; which of its times are estimates; whether all are mapped."""
    try:
        reading = read_text(text, str(output or "config.yaml"), {"TUNER_API_KEY": "made-up"})
        if reading.problems:
            raise ConfigError(reading.problems)
        sources = compile_config(reading.config, os.environ, {})
    except ConfigError as exc:
        return ["the configuration is invalid; please report this: " + "; ".join(map(str, exc.problems))], [], False
    lines: list[str] = []
    estimates: list[str] = []
    good, outcomes = True, set[str]()
    for name, compiled in sources.items():
        mine = [file for file in files if _source_of(file, reading.config) == name]
        for unit in units(compiled, [one for file in mine for one in file.reads]):
            evaluation = evaluate(compiled, unit)
            where = visible(os.path.basename(unit.origins[0]))
            if len(unit.origins) > 1:
                where += f" and {count(len(unit.origins) - 1, 'document')} more"
            outcome, refusal = outcome_of(evaluation), evaluation.refusal
            outcomes.add(outcome)
            result = f"is ignored by the rules of source {name}" if outcome == "ignored" else f"gives a {outcome} (source {name})"
            if refusal is not None:
                result = f"is refused by source {name}: {refusal.where}: {refusal.what}"
                good = False
            lines.append(f"{where}: {result}")
            estimates += [f"{where}: {what}" for what in estimated(evaluation)]
    if outcomes == {"ignored"}:
        lines.append("nothing in these files would be sent: the rules ignore every document")
        good = False
    return lines, estimates, good


def _source_of(file: SampleFile, config: Config) -> str | None:
    return next((source.name for source in config.sources if would_read(source, file.path)), None)


def _tell(made: Starter, results: Sequence[str]) -> None:
    for title, lines in (
        ("Recognised", made.found),
        ("With this configuration", results),
        ("Guesses, to be checked", made.unsure),
    ):
        if lines:
            say(title, err=True)
        for line in dict.fromkeys(lines[:_SHOWN]):
            for each in wrapped(line, "      ", "  - "):
                say(each, err=True)
        if len(lines) > _SHOWN:
            say(f"  and {len(lines) - _SHOWN:,} more", err=True)
