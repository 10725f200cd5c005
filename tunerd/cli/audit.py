"""`tunerd audit`: is every document on disk accounted for in the ledger?"""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import click

from tunerd.admin.answer_types import ConfigurationDocument
from tunerd.admin.api import Admin, CallsOrder, ConfigurationOrder
from tunerd.admin.audit_report import Audit, AuditDocument, PlaceRow, RowsSeen, SourceAudit
from tunerd.admin.client import AdminClient
from tunerd.admin.phrases import place
from tunerd.call import Document, State
from tunerd.cli.admin import ask, every_call
from tunerd.cli.input_files import read
from tunerd.cli.options import SINCE, exit_bad_config, json_option
from tunerd.cli.target import Target, read_known, target_options
from tunerd.cli.terminal import say, say_json
from tunerd.config import Config, Source
from tunerd.intake.names import Names
from tunerd.intake.removal import target_directory
from tunerd.intake.scan import why_odd
from tunerd.loading.config_file import load_text
from tunerd.mapping import SourceMapping, compile_sources
from tunerd.source_tree import SourceTree
from tunerd.visible import visible
from tunerd.yaml_location import ConfigError

_EPILOG = """\b
Examples:
  tunerd audit
  tunerd audit --since 24h
  tunerd audit --since 2026-11-21 --json | jq .missing
\b
Exit code 0: nothing is missing; 1: a document is missing in the ledger, or something cannot be read, so that the
result is not known. Run it as the user that tunerd runs as. Failed calls are not missing: `tunerd failed` lists them.
"""
_SHOWN: Final = 20
_PAGE: Final = 1000
_NUMBERED: Final = re.compile(r"\.\d{1,3}$")


@click.command(epilog=_EPILOG)
@target_options
@click.option("--since", type=SINCE, metavar="WHEN", help="Only files written since this time: 2h, 7d, 2026-11-22.")
@json_option("Print the result as JSON (docs/status-json.md).")
def command(target: Target, since: float | None, as_json: bool) -> None:
    """Compare every document on disk (also in the directories that after_sent moves to) with the ledger.

    It lists what is missing, duplicate, failed or extra, and what cannot be known. Each file is read and mapped again; nothing
    is changed."""
    loaded, environ, is_reported = _configuration(target)
    try:
        mappings = compile_sources(loaded, environ)
    except ConfigError as exc:
        exit_bad_config(exc)
    unlisted: list[tuple[str, str, str]] = []
    files = [(source, list(_files(source, unlisted))) for source in loaded.sources]  # before the rows, which can only become more
    now = time.time()
    rows = ask(target, lambda admin: _rows(admin, since), again=is_reported)
    older = {source.name: source.ignore_older_s for source in loaded.sources if source.ignore_older_s is not None}
    audit = Audit(rows=rows, now=now, since=since, kept_s=loaded.ledger.keep_sent_s, left_out_s=older)
    for source, found in files:
        audit.source(source.name)
        for path, was_at, at in found:
            audit.paths.add(was_at)
            if at.st_mtime >= (since or 0.0):
                _audit_file(audit, source, mappings[source.name], path, was_at, at)
    for one in unlisted:
        audit.cannot_read(*one)
    report = audit.document()
    if as_json:
        say_json(report)
    else:
        _draw(report)
    sys.exit(0 if report.gap is False else 1)


def _configuration(target: Target) -> tuple[Config, Mapping[str, str], bool]:
    """The configuration of the file; if that cannot be used, the one that the running daemon has loaded (with the variables
    that only the service has). Also whether the problems of the file have been reported."""
    known = read_known(target.config)
    if known.config is not None and not known.problems:
        return known.config, os.environ, False

    async def of_the_daemon(admin: Admin) -> ConfigurationDocument:
        if not isinstance(admin, AdminClient):
            raise known.error()
        return await admin.ask(ConfigurationOrder())

    answer = ask(target, of_the_daemon)
    environ = {**os.environ, **answer.environment}
    try:
        return load_text(answer.text, answer.file, environ, resolve_secrets=False), environ, True
    except ConfigError as exc:
        exit_bad_config(exc)


def _files(source: Source, unlisted: list[tuple[str, str, str]]) -> Iterator[tuple[str, str, os.stat_result]]:
    """Path, the path at which it was read, and stat of every file of the source, also of those in `move_to`. Directories
    that cannot be listed are added to `unlisted` (source, path, why): their content is not known."""
    root, target = os.path.abspath(source.path), target_directory(source)
    inside = os.path.relpath(target, root) if target is not None else None
    names = Names(source, inside)
    for base, is_done in ((root, False), *(((target, True),) if target is not None else ())):

        def cannot_list(exc: OSError, may_lack: bool = is_done) -> None:
            if not (may_lack and isinstance(exc, FileNotFoundError)):  # move_to is created when it is needed
                unlisted.append((source.name, os.fsdecode(exc.filename), f"cannot be listed: {_why(exc)}"))

        for directory, directories, found in os.walk(base, onerror=cannot_list):
            below = os.path.relpath(directory, base)
            prefix = "" if below == "." else below + "/"
            directories[:] = sorted(one for one in directories if source.recursive and (is_done or names.enters(prefix + one)))
            for name in sorted(found):
                path, relative = os.path.join(directory, name), prefix + name
                if is_done and not names.fits(relative):
                    relative = _NUMBERED.sub("", relative)  # the second of two files with one name got a number
                try:
                    at = os.stat(path)
                    if names.fits(relative) and _is_inside(base, prefix + name):
                        yield path, os.path.join(root, relative), at
                except FileNotFoundError:
                    continue  # deleted meanwhile
                except OSError as exc:
                    if names.fits(relative):
                        unlisted.append((source.name, path, f"cannot be read: {_why(exc)}"))


def _is_inside(base: str, relative: str) -> bool:
    with SourceTree(base).opened() as inside:
        return why_odd(inside, relative) is None


async def _rows(admin: Admin, since: float | None) -> RowsSeen:
    """All calls admitted since then, and all failed and ignored documents, which explain their place in a file."""
    seen = RowsSeen(since or 0.0)
    if since is not None:
        old = CallsOrder(states=frozenset({State.FAILED, State.IGNORED}), dismissed=None, limit=_PAGE)
        async for row in every_call(admin, old):
            seen.add(row)
    async for row in every_call(admin, CallsOrder(since=since, dismissed=None, limit=_PAGE)):
        seen.add(row)
    return seen


def _audit_file(audit: Audit, source: Source, mapping: SourceMapping, path: str, was_at: str, at: os.stat_result) -> None:
    def young() -> bool:
        # A file copied just now with old times, or a log that has grown since, may also be about to be read.
        now = os.stat(path)
        return audit.now - max(now.st_mtime, now.st_ctime) < source.settle_timeout_s + source.rescan_s

    of = audit.source(source.name)
    of.files += 1
    try:
        for one in read(source, path, audit.now):
            if source.gather is not None:
                of.documents += 1
                of.parts += 1
                continue
            for each in mapping.elements(one) if isinstance(one, Document) else (one,):
                is_refused = audit.is_refused(
                    was_at, each.origin.offset
                )  # perhaps mapping it crashed: it is not mapped again here
                mapped = mapping.map(each) if isinstance(each, Document) and not is_refused else None
                audit.see(each, mapped, path=was_at, mtime=at.st_mtime, young=young)
    except FileNotFoundError:
        of.files -= 1
    except (OSError, ValueError) as exc:
        audit.cannot_read(source.name, path, f"cannot be read: {_why(exc)}")


def _why(exc: OSError | ValueError) -> str:
    if isinstance(exc, PermissionError):
        return "this user may not read it"
    return getattr(exc, "strerror", None) or "not a regular file"


def _draw(report: AuditDocument) -> None:
    for of in report.sources:
        say(f"{of.name}: {of.files:,} files, {of.documents:,} documents")
        for count, words in (
            (of.sent, "sent"),
            (of.open, "in the ledger, not sent yet"),
            (of.failed, "failed or dismissed    tunerd failed"),
            (of.left_out, "ignored by the rules (tunerd explain --summary)"),
            (of.left_out_old, "ignored: not in the ledger, and older than ignore_older"),
            (of.duplicates, "duplicates of a call that another document contains"),
            (of.unread, "not read yet, written just now"),
            (of.missing, "MISSING: not in the ledger (or erased by `tunerd forget`)"),
        ):
            if count:
                say(f"  {count:>9,}  {words}")
        for count, words in (
            (of.unreadable, "unknown, no permission to read (or another read error); a directory counts once"),
            (of.unknown, "not in the ledger, but older than keep_sent: may have been sent"),
            (of.other_id, "in the ledger under another call id: the rule has changed"),
            (of.recordings, "recordings (their calls show whether they were used)"),
            (of.parts, "parts of gathered calls"),
        ):
            if count:
                say(f"  {count:>9,}  cannot be compared: {words}")
    if report.extra:
        say(
            f"{report.extra:,} in the ledger whose file is not on disk (or no longer), {report.extra_open:,} of them not sent yet"
        )
    _list("missing", report.missing)
    _list("unknown, no permission to read", report.unreadable)
    _list("duplicate", report.duplicates)
    _list("failed", report.failed)
    say()
    say(_verdict(report))


def _verdict(report: AuditDocument) -> str:
    """The last line; it says "No gap" only if every document was compared, or is ignored on purpose."""

    def count(number: Callable[[SourceAudit], int]) -> int:
        return sum(map(number, report.sources))

    if report.gap:
        return "There is a gap. Is the daemon running, and does `tunerd status` show that the source is read?"
    if report.gap is None:
        cannot = f"{count(lambda of: of.unreadable):,} files or directories cannot be read"
        return f"Not known whether there is a gap: {cannot}. Run it as the user that tunerd runs as: sudo -u tunerd tunerd audit"
    if not_compared := count(lambda of: of.unknown + of.other_id + of.parts):
        return f"Nothing is missing among the documents that can be compared; {not_compared:,} cannot be compared (see above)."
    if unread := count(lambda of: of.unread):
        return f"Nothing is missing so far; {unread:,} documents were written just now and are not read yet."
    ignored = count(lambda of: of.left_out + of.left_out_old)
    return "No gap: every document is in the ledger" + (f", except {ignored:,} that are ignored (see above)." if ignored else ".")


def _list(title: str, rows: Sequence[PlaceRow]) -> None:
    if rows:
        say()
        say(f"{title}:")
    for row in rows[:_SHOWN]:
        call = "" if row.call_id is None else f"  {row.call_id}"
        say(f"  {visible(place(row.path, row.offset))}{call}  {row.what}")
    if len(rows) > _SHOWN:
        say(f"  and {len(rows) - _SHOWN:,} more (--json lists up to 1,000)")
