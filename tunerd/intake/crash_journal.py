"""The crash journal: a small file beside the ledger that says which documents are being worked on. After a crash the next
process reads in it which of them may have caused it.

admitter.py and file_reader.py act on it. Nothing is synced: what a process has written outlives it, and a power cut is no
document's fault. The ledger's lock covers this file too.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from enum import IntEnum
from typing import Final, TypeAlias

from tunerd.record import record

_SLOT_BYTES: Final = 8192
"""A path has at most 4,096 bytes, a source's name 64."""

File: TypeAlias = tuple[str, str]
"""Source and absolute path."""


class Phase(IntEnum):
    PAST = 0
    """Of a process before this one; nothing is done with it now."""
    READING = 1
    MAPPING = 2
    ADMITTING = 3


_STRIKES: Final = {Phase.PAST: 0, Phase.READING: 1, Phase.MAPPING: 3, Phase.ADMITTING: 1}
_QUARANTINED_AT: Final = 6
"""Two deaths of the process while a document was mapped. Reading and admitting mostly wait for threads and the disk, so a
death in them is usually an external SIGKILL (20 in a row under load once accused a sound file after two): it takes six."""
_SINGLY_AT: Final = 3
"""A batch that was being admitted at that many deaths is admitted one document at a time."""


@record
class Section:
    """The part of a file that is worked on: one document, or where `length` is negative more than one."""

    offset: int
    length: int

    @property
    def is_exact(self) -> bool:
        return self.length >= 0


FILE: Final = Section(offset=0, length=-2)
"""The file as a whole, while its bytes are read and parsed."""


def batch_at(offset: int) -> Section:
    """The documents from `offset` on that are admitted together."""
    return Section(offset=offset, length=-1)


class CrashJournal:
    """Use: `begin` a file, `note` on the entry what is done with it, `end` it whatever came of it but a crash."""

    def __init__(self, path: str | None) -> None:
        """Without a path (a ledger in memory) nothing is kept. A file that cannot be written is done without."""
        self._fd = -1
        self._path = path
        self._free: list[int] = []
        self._slots = 0
        self._held = 0
        self.suspected: dict[File, dict[Section, int]] = {}
        """The strikes against each suspect."""
        self._past: dict[File, list[tuple[Section, int]]] = {}
        """Slots that carry what is known of a suspect over to the next process, should this one die too."""
        if path is not None:
            with suppress(OSError):
                self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._load()

    def close(self) -> None:
        """Nothing in hand: nothing to remember."""
        if self._fd < 0:
            return
        os.close(self._fd)
        self._fd = -1
        if self._held == 0 and not self.suspected and self._path is not None:
            with suppress(OSError):
                os.unlink(self._path)

    def suspects(self, source: str) -> list[str]:
        """Paths of a source that were in hand when the process died; the quarantined among them."""
        return sorted(path for of, path in self.suspected if of == source)

    def begin(self, source: str, path: str) -> "JournalEntry":
        slot = self._free.pop() if self._free else self._new_slot()
        self._held += 1
        journal_entry = JournalEntry(self, slot, (source, path))
        journal_entry.note(Phase.READING, FILE)
        return journal_entry

    # For JournalEntry.

    def is_quarantined(self, file: File, section: Section) -> bool:
        return self.strikes(file, section) >= _QUARANTINED_AT

    def strikes(self, file: File, section: Section, *, with_batch: bool = False) -> int:
        """What counts against it from earlier processes; `with_batch`: or against the batch that it may be in."""
        known = self.suspected.get(file, {})
        batches = [known[one] for one in known if one.length == -1 and one.offset <= section.offset] if with_batch else []
        return max([known.get(section, 0), *batches])

    def passed(self, file: File, offset: int) -> None:
        """The file is durable up to this offset, so nothing before it is a suspect."""
        known = self.suspected.get(file, {})
        for section in [one for one in known if one.offset < offset]:
            del known[section]
        past = self._past.pop(file, [])
        self._clear(slot for section, slot in past if section.offset < offset)
        self._past[file] = [(section, slot) for section, slot in past if section.offset >= offset]
        if not known:
            self._forget(file)

    def _forget(self, file: File) -> None:
        self.suspected.pop(file, None)
        if past := self._past.pop(file, None):
            self._clear([slot for _, slot in past])

    def write(self, slot: int, phase: Phase, name: bytes, section: Section, strikes: int) -> None:
        """`name`: of the file, as `_name_of` gives it."""
        if self._fd < 0:
            return
        with suppress(OSError):
            record = b"%d %d %d %d\0%b" % (phase, strikes, section.offset, section.length, name)
            os.pwrite(self._fd, record, slot * _SLOT_BYTES)

    def end(self, slot: int, file: File, *, cleared: bool) -> None:
        self._held -= 1
        self._clear([slot])
        if cleared:
            self._forget(file)

    def _clear(self, slots: Iterable[int]) -> None:
        for slot in slots:
            self._free.append(slot)
            if self._fd >= 0:
                with suppress(OSError):
                    os.pwrite(self._fd, b"\0", slot * _SLOT_BYTES)

    def _new_slot(self) -> int:
        self._slots += 1
        return self._slots - 1

    def _load(self) -> None:
        """What the process before this one had in hand, if it died; and what that one knew of those before it."""
        size = os.fstat(self._fd).st_size
        self._slots = -(-size // _SLOT_BYTES)
        for slot in range(self._slots):
            entry = _parse(os.pread(self._fd, _SLOT_BYTES, slot * _SLOT_BYTES))
            if entry is None:
                self._free.append(slot)
                continue
            phase, strikes, section, file = entry
            strikes += _STRIKES[phase]
            known = self.suspected.setdefault(file, {})
            known[section] = max(strikes, known.get(section, 0))
            self._past.setdefault(file, []).append((section, slot))
            self.write(slot, Phase.PAST, _name_of(file), section, strikes)


class JournalEntry:
    """One file in hand."""

    def __init__(self, journal: CrashJournal, slot: int, file: File) -> None:
        self._journal, self._slot, self._file = journal, slot, file
        self._name = _name_of(file)

    @property
    def is_suspect(self) -> bool:
        """Whether the process died while this file was in hand: its batches are admitted one after the other."""
        return self._file in self._journal.suspected

    def is_taken_singly(self, batch: Section) -> bool:
        """Whether the process died while this batch was admitted, often enough to admit each of its documents alone."""
        return self.is_suspect and self._journal.strikes(self._file, batch, with_batch=False) >= _SINGLY_AT

    def is_quarantined(self, section: Section) -> bool:
        """Whether the process died over exactly this, often enough to set it aside."""
        return self._journal.is_quarantined(self._file, section)

    def note(self, phase: Phase, section: Section) -> None:
        strikes = 0
        if self.is_suspect:
            with_batch = phase is Phase.ADMITTING and section.is_exact
            strikes = self._journal.strikes(self._file, section, with_batch=with_batch)
        self._journal.write(self._slot, phase, self._name, section, strikes)

    def passed(self, offset: int) -> None:
        """What was read of it is durable up to there."""
        if self.is_suspect:
            self._journal.passed(self._file, offset)

    def end(self, *, cleared: bool) -> None:
        """Done with it. `cleared`: it was read to its end, so nothing of it is a suspect any more."""
        self._journal.end(self._slot, self._file, cleared=cleared)


def _name_of(file: File) -> bytes:
    return b"\0".join((os.fsencode(file[0]), os.fsencode(file[1]), b""))


def _parse(record: bytes) -> tuple[Phase, int, Section, File] | None:
    head, _, rest = record.partition(b"\0")
    source, _, rest = rest.partition(b"\0")
    path, end, _ = rest.partition(b"\0")
    numbers = head.split()
    if len(numbers) != 4 or not end or not all(number.lstrip(b"-").isdigit() for number in numbers):
        return None
    phase, strikes, offset, length = map(int, numbers)
    if phase not in list(Phase):
        return None
    return Phase(phase), strikes, Section(offset=offset, length=length), (os.fsdecode(source), os.fsdecode(path))
