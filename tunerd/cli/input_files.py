"""The files that commands are given: which source reads them, and their documents."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import click

from tunerd.audio.spool import MeasuringSpool
from tunerd.call import Document, RefusedDocument
from tunerd.cli.terminal import say
from tunerd.config import Config, LedgerConfig, Source
from tunerd.config.quantities import duration_text
from tunerd.intake.names import Names
from tunerd.intake.read_again import read_documents
from tunerd.intake.scan import why_odd
from tunerd.source_tree import SourceTree


def files_of(paths: Iterable[Path], wanted: Callable[[Path], bool]) -> Iterator[tuple[Path, bool]]:
    """The named files, and the wanted files in and below the named directories, in the order of names. Each with whether it
    was named itself."""
    for path in paths:
        if not path.is_dir():
            yield path, True
            continue
        for directory, names, files in os.walk(path):
            names[:] = sorted(name for name in names if not name.startswith("."))
            for name in sorted(files):
                if not name.startswith(".") and wanted(Path(directory, name)):
                    yield Path(directory, name), False


def wanted_by_name(patterns: Sequence[str]) -> Callable[[Path], bool]:
    """`wanted` by patterns of the name alone."""
    return lambda path: any(fnmatch(path.name, pattern) for pattern in patterns)


def wanted_by(config: Config, named: str | None = None) -> Callable[[Path], bool]:
    """In a source's directory what that source reads, elsewhere what matches the `include` of a source. `named`: only of this
    source."""
    sources = [source for source in config.sources if named is None or source.name == named]
    by_name = wanted_by_name([pattern for source in sources for pattern in source.include])

    def wanted(path: Path) -> bool:
        absolute = os.path.abspath(path)
        inside = [one for one in sources if absolute.startswith(os.path.abspath(one.path).rstrip("/") + "/")]
        return any(would_read(one, absolute) for one in inside) if inside else by_name(path)

    return wanted


def source_of(config: Config, file: Path, named: str | None) -> Source:
    """The source that would read this file: the named one, the one whose directory and patterns match, or the only one with
    calls. Ends the command with a hint if that is not clear."""
    by_name = {source.name: source for source in config.sources}
    if named is not None:
        if named not in by_name:
            raise click.BadParameter(f"there is no source {named!r}; there is: {', '.join(by_name)}", param_hint="--source")
        return by_name[named]
    absolute = os.path.abspath(file)
    matching = [source for source in config.sources if would_read(source, absolute)]
    if len(matching) == 1:
        return matching[0]
    calls = [source for source in (matching or config.sources) if source.destination]
    if len(calls) == 1:
        return calls[0]
    raise click.UsageError(f"several sources could map {file}: choose one with --source: {', '.join(by_name)}")


def would_read(source: Source, absolute: str) -> bool:
    """Whether the source's directory and patterns match this path, as in a scan (rotated logs, `exclude`)."""
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
        return "include, exclude or recursive of the source exclude it"
    try:
        with SourceTree(root).opened() as inside:
            if (odd := why_odd(inside, os.path.relpath(absolute, root))) is not None:
                return odd
        age = time.time() - os.stat(absolute).st_mtime
    except OSError:
        return None  # reported where it is opened
    if source.ignore_older_s is not None and age > source.ignore_older_s:
        return f"it is older than ignore_older ({duration_text(source.ignore_older_s)})"
    return None


def read(
    source: Source, file: Path | str, settled_at: float | None = None, *, ledger: LedgerConfig | None = None
) -> Iterator[Document | RefusedDocument]:
    """Every document of the file as the source reads it: audio in it does not count for `max_document`, and is kept nowhere.
    Raises OSError, and ValueError if it is not a regular file."""
    yield from read_documents(
        os.path.abspath(file),
        source.format,
        source.max_document_bytes,
        source=source.name,
        settled_at=time.time() if settled_at is None else settled_at,
        keep_noise=source.not_json == "fail",
        spool=MeasuringSpool((ledger or LedgerConfig()).max_spool_bytes),
    )


def read_or_exit(source: Source, file: Path) -> Iterator[Document | RefusedDocument]:
    """As `read`; a file that cannot be read ends the command."""
    try:
        yield from read(source, file)
    except (OSError, ValueError) as exc:
        cannot_read(file, exc)
        sys.exit(1)


def cannot_read(file: Path, exc: OSError | ValueError) -> None:
    """One line on stderr."""
    why = "there is no such file" if isinstance(exc, FileNotFoundError) else getattr(exc, "strerror", None) or str(exc)
    say(f"tunerd: {file} cannot be read: {why}", err=True)
