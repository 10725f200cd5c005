"""What commands share that read documents from files: which source a file belongs to, and its documents."""

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

from tunerd.call import Document, RefusedDocument
from tunerd.cli.options import exit_bad_config
from tunerd.cli.terminal import say
from tunerd.config import Config, Source
from tunerd.config.quantities import duration_text
from tunerd.delivery.key import Key
from tunerd.intake.read import read_documents
from tunerd.intake.scan import Names, why_odd
from tunerd.intake.source_tree import SourceTree
from tunerd.mapping import SourceMapping, compile_sources
from tunerd.places import ConfigError


def compile_or_exit(config: Config) -> dict[str, SourceMapping]:
    """The rules of every source, or their problems on stderr and exit 78."""
    forms = {destination.name: form for destination in config.destinations if (form := Key(destination).form) is not None}
    try:
        return compile_sources(config, os.environ, forms)
    except ConfigError as exc:
        exit_bad_config(exc)


def source_of(config: Config, file: Path, named: str | None) -> Source:
    """The source that would read this file: the named one, the one whose directory and patterns fit, or the only one
    with calls. Ends the command with a hint where that is not clear."""
    by_name = {source.name: source for source in config.sources}
    if named is not None:
        if named not in by_name:
            raise click.BadParameter(f"there is no source {named!r}; there is: {', '.join(by_name)}", param_hint="--source")
        return by_name[named]
    absolute = os.path.abspath(file)
    fits = [source for source in config.sources if would_read(source, absolute)]
    if len(fits) == 1:
        return fits[0]
    calls = [source for source in (fits or config.sources) if source.destination]
    if len(calls) == 1:
        return calls[0]
    raise click.UsageError(f"which source is {file} of? Say --source with one of: {', '.join(by_name)}")


def would_read(source: Source, absolute: str) -> bool:
    """Whether the source's directory and patterns fit this path, as its scan has it (rotated logs, `exclude`)."""
    relative = os.path.relpath(absolute, os.path.abspath(source.path))
    *directories, _ = relative.split(os.sep)
    if directories[:1] == [os.pardir] or (directories and not source.recursive):
        return False
    names = Names(source)
    return names.fits(relative) and all(names.enters("/".join(directories[: n + 1])) for n in range(len(directories)))


def why_not_read(source: Source, file: Path) -> str | None:
    """Why the source does not read this file of its directory; None: it does, or the file is elsewhere and only tried."""
    absolute, root = os.path.abspath(file), os.path.abspath(source.path)
    if not absolute.startswith(root.rstrip("/") + "/"):
        return None
    if not would_read(source, absolute):
        return "its place or name does not fit include, exclude or recursive of the source"
    try:
        with SourceTree(root).opened() as inside:
            if (odd := why_odd(inside, os.path.relpath(absolute, root))) is not None:
                return odd
        age = time.time() - os.stat(absolute).st_mtime
    except OSError:
        return None  # told where it is opened
    if source.ignore_older_s is not None and age > source.ignore_older_s:
        return f"it is older than ignore_older ({duration_text(source.ignore_older_s)})"
    return None


def read(source: Source, file: Path | str, settled_at: float | None = None) -> Iterator[Document | RefusedDocument]:
    """Every document of the file as the source reads it. Raises OSError, and ValueError where it is no regular file."""
    yield from read_documents(
        os.path.abspath(file),
        source.format,
        source.max_document_bytes,
        source=source.name,
        settled_at=time.time() if settled_at is None else settled_at,
        keep_noise=source.not_json == "fail",
    )


def documents_of(source: Source, file: Path) -> Iterator[Document | RefusedDocument]:
    """Every document of the file, as the source reads it. A file that cannot be read ends the command."""
    try:
        yield from read(source, file)
    except FileNotFoundError:
        _stop(f"there is no file {file}")
    except (OSError, ValueError) as exc:
        _stop(f"{file} cannot be read: {getattr(exc, 'strerror', None) or exc}")


def _stop(message: str) -> None:
    say(f"tunerd: {message}", err=True)
    sys.exit(1)
