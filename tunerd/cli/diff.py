"""`tunerd diff`: what a new configuration would change in the bodies of real calls."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import orjson

from tunerd.admin.answer_types import DocumentRow
from tunerd.admin.api import Admin, DocumentsOrder
from tunerd.call import Document, Origin, RefusedDocument
from tunerd.cli.admin import ask
from tunerd.cli.compiling import compiled_or_exit, config_or_exit
from tunerd.cli.input_files import cannot_read, files_of, read, source_of, wanted_by
from tunerd.cli.options import FILE
from tunerd.cli.target import Target
from tunerd.cli.terminal import say, say_plain_json
from tunerd.config import Config
from tunerd.workbench.compare import ABSENT
from tunerd.workbench.compiled import CompiledSource
from tunerd.workbench.difference import Difference, DifferenceKind, Total, differences, drawn

_EPILOG = """\b
Examples:
  tunerd diff /etc/tunerd/config.yaml new.yaml /var/spool/calls
  tunerd diff /etc/tunerd/config.yaml new.yaml --from-ledger 200

Nothing is sent, and the ledger is not changed. --from-ledger maps the newest documents that the ledger of OLD
still holds (`ledger.keep_documents`, 200 by default), with or without a running daemon. The output contains what
was said in the calls: take care who sees it. Exit code: 0 nothing would change; 1 something would; 2 usage, or a
file that cannot be read; 75 another process holds the ledger; 78 an invalid configuration.
"""
_CALLS_SHOWN: Final = 20
_CHANGES_SHOWN: Final = 10
_UNREADABLE: Final = 2

Read = Document | RefusedDocument


@click.command("diff", epilog=_EPILOG)
@click.argument("old", type=FILE)
@click.argument("new", type=FILE)
@click.argument("files", nargs=-1, type=FILE, metavar="[FILE]...")
@click.option(
    "--from-ledger", "newest", type=click.IntRange(min=1), metavar="N", help="Map the N newest documents of the ledger."
)
@click.option("--source", metavar="NAME", help="The source in OLD whose rules map FILE (default: the source that would read it).")
@click.option("--all", "whole", is_flag=True, help="Show every call and every change.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON, with every change.")
def command(
    old: Path, new: Path, files: tuple[Path, ...], newest: int | None, source: str | None, whole: bool, as_json: bool
) -> None:
    """Map real documents with the rules of the configurations OLD and NEW, and show how the request bodies differ."""
    if bool(files) == (newest is not None):
        raise click.UsageError("name files or directories, or use --from-ledger N")
    before, after = config_or_exit(old), config_or_exit(new)
    compiled, others = compiled_or_exit(before), compiled_or_exit(after)
    if newest is not None:
        reads, failed = _from_ledger(old, newest), False
    else:
        reads, failed = _from_files(before, files, source)
    total, found = Total(), list[Difference]()
    for name, documents in reads.items():
        if name not in compiled:
            say(f"tunerd: {old} has no source {name!r}: {len(documents)} of its documents are not compared", err=True)
            continue
        for one in differences(compiled[name], _other(compiled[name], others), documents):
            total.add(one)
            if one.kind is not DifferenceKind.UNCHANGED:
                found.append(one)
    _tell(total, found, whole=whole, as_json=as_json)
    sys.exit(_UNREADABLE if failed else 1 if total.differs else 0)


def _other(compiled: CompiledSource, others: dict[str, CompiledSource]) -> CompiledSource | None:
    """The source of the same name; if it was renamed, the only one that reads the same directory."""
    if compiled.source.name in others:
        return others[compiled.source.name]
    same = [one for one in others.values() if one.source.path == compiled.source.path]
    return same[0] if len(same) == 1 else None


def _from_files(config: Config, paths: tuple[Path, ...], named: str | None) -> tuple[dict[str, list[Read]], bool]:
    found: dict[str, list[Read]] = {}
    failed = False
    for file, _ in files_of(paths, wanted_by(config, named)):
        chosen = source_of(config, file, named)
        try:
            found.setdefault(chosen.name, []).extend(read(chosen, file, ledger=config.ledger))
        except (OSError, ValueError) as exc:
            cannot_read(file, exc)
            failed = True
    return found, failed


def _from_ledger(config_file: Path, newest: int) -> dict[str, list[Read]]:
    async def documents(admin: Admin) -> tuple[list[DocumentRow], int]:
        rows: list[DocumentRow] = []
        without = 0
        after_row: int | None = 0
        while after_row is not None and len(rows) < newest:
            page = await admin.ask(DocumentsOrder(after_row=after_row))
            rows += page.documents
            without += page.without
            after_row = page.next_after_row
        return rows[:newest], without

    rows, without = ask(Target(config=config_file), documents)
    if len(rows) < newest:
        passed = f"; it holds none for {without:,} calls (`ledger.keep_documents`)" if without else ""
        say(f"tunerd: the ledger holds {len(rows):,} documents{passed}", err=True)
    found: dict[str, list[Read]] = {}
    for row in rows:
        found.setdefault(row.source, []).append(_document(row))
    return found


def _document(row: DocumentRow) -> Document:
    raw = row.document.encode()
    origin = Origin(source=row.source, path=row.path, offset=row.offset, length=len(raw), mtime_ns=row.mtime_ns)
    return Document(origin=origin, raw=raw, value=orjson.loads(raw), settled_at=row.admitted_at, is_element=True)


def _tell(total: Total, found: list[Difference], *, whole: bool, as_json: bool) -> None:
    if as_json:
        shown: dict[str, Any] = {
            "version": 1,
            "counts": {kind.value: total.kinds[kind] for kind in DifferenceKind},
            "fields": dict(total.fields),
            "differences": [_json(one) for one in found],
        }
        say_plain_json(shown)
        return
    for line in _lines(found, whole=whole):
        say(line)
    for line in total.lines():
        say(line)


def _lines(found: list[Difference], *, whole: bool) -> Iterator[str]:
    for one in found if whole else found[:_CALLS_SHOWN]:
        yield from drawn(one, None if whole else _CHANGES_SHOWN)
        yield ""
    if not whole and len(found) > _CALLS_SHOWN:
        yield f"and {len(found) - _CALLS_SHOWN:,} more calls that differ (--all shows them)"
        yield ""


def _json(one: Difference) -> dict[str, Any]:
    def side(change: str, value: Any) -> dict[str, Any]:
        return {} if value is ABSENT else {change: value}

    return {
        "documents": list(one.origins),
        "call_id": one.call_id,
        "kind": one.kind.value,
        "refused_before": one.before or None,
        "refused_now": one.after or None,
        "changes": [{"path": each.path, **side("old", each.old), **side("new", each.new)} for each in one.changes],
    }
