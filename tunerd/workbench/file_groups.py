"""The files that `tunerd init` looks at, put together by what they hold: a group becomes a source. Pure.

Files of one platform belong together, so do folders of which each is a call, and files with much the same members.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tunerd.call import Document, RefusedDocument
from tunerd.mapping.elements import elements_of
from tunerd.mapping.expressions import compile_item
from tunerd.workbench.catalogue import PresetInfo, preset_info
from tunerd.workbench.fields import Finder
from tunerd.workbench.pages import list_of_documents
from tunerd.workbench.propose import propose, propose_folder
from tunerd.workbench.recognise import Match, recognise
from tunerd.workbench.rival import loses
from tunerd.workbench.row_rules import Proposal
from tunerd.workbench.shape import Shape, speech_in

LOOKED_AT: Final = 60
"""Documents of a file."""
_MEMBERS_SHOWN: Final = 8
_SPOKEN_LINE: Final = re.compile(
    rb"(?:^|[\])\d>-])\s*(?:user|assistant|agent|bot|caller|customer)\s*:", re.IGNORECASE | re.MULTILINE
)
"""`[2026-07-01T10:00:01+00:00] user: Hello`."""


@dataclass(slots=True)
class SampleFile:
    path: str
    """Absolute."""
    reads: Sequence[Document | RefusedDocument]
    match: Match | None = None
    documents: str = ""
    """The rule for the list that holds the documents, where `reads` are its elements."""

    @property
    def values(self) -> list[Any]:
        return [one.value for one in self.reads[:LOOKED_AT] if isinstance(one, Document)]


@dataclass(slots=True)
class FileGroup:
    """The files of one source."""

    name: str
    files: list[SampleFile]
    preset: PresetInfo | None = None
    proposal: Proposal | None = None
    root: str | None = None
    """Where it is not simply the directory of its files."""

    @property
    def shape(self) -> Shape:
        return Shape.of(value for file in self.files for value in file.values)

    @property
    def gives_calls(self) -> bool:
        return self.preset.calls if self.preset else bool(self.proposal and self.proposal.calls)


@dataclass(slots=True)
class Findings:
    """What was recognised and what was guessed on the way, one line each."""

    found: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


def grouped(files: Sequence[SampleFile], environ: Mapping[str, str], made: Findings) -> list[FileGroup]:
    """The groups, ordered by their first files. A file that can't be mapped is in none."""
    by_preset: dict[str, list[SampleFile]] = {}
    unknown: list[SampleFile] = []
    for file in [_apart(file, environ) for file in files]:
        matches = recognise(file.reads, environ)
        file.match = matches[0] if matches else None
        documents = [one for one in file.reads[:LOOKED_AT] if isinstance(one, Document)]
        if file.match is not None and loses(file.match, documents, environ):
            made.unsure.append(
                f"{_base(file)} looks like {file.match.preset} too, but that preset leaves out times or audio that the file has"
            )
            file.match = None
        if file.match is None:
            unknown.append(file)
            continue
        by_preset.setdefault(file.match.preset, []).append(file)
        if len(matches) > 1 and matches[1].score > file.match.score - 0.5:
            made.unsure.append(f"{_base(file)} could also be {matches[1].preset}")
    groups = [FileGroup(name, listed, preset=preset_info(name)) for name, listed in by_preset.items()]
    folders = _folders(unknown)
    if folders and (proposal := propose_folder([_documents(folder) for folder in folders.values()])) is not None:
        together = [file for folder in folders.values() for file in folder]
        parents = sorted({os.path.dirname(directory) for directory in folders})
        groups.append(FileGroup("agent", together, proposal=proposal, root=os.path.commonpath(parents)))
        unknown = [file for file in unknown if file not in together]
    for listed in _alike(unknown, made):
        proposal = propose([value for file in listed for value in file.values], one_file=len(listed) == 1)
        if proposal is None:
            made.unsure += [f"{_base(file)}: {_no_call(file)}" for file in listed]
            continue
        name = "agent" if proposal.calls else "recordings"
        taken = {group.name for group in groups}
        name = next(one for one in (name, *(f"{name}-{at}" for at in range(2, 1000))) if one not in taken)
        groups.append(FileGroup(name, listed, proposal=proposal))
    for group in groups:
        kind = (
            f"recognised as {group.preset.name}"
            if group.preset
            else "no platform is recognised: rules are proposed by field names"
        )
        made.found.append(f"{', '.join(_base(file) for file in group.files[:4])}{' ...' if len(group.files) > 4 else ''}: {kind}")
        if group.preset and not any(file.match and file.match.certain for file in group.files):
            made.unsure.append(f"preset {group.preset.name} maps these files, but nothing says that its platform made them")
        if group.proposal:
            made.unsure += [f"{group.name}: {guess}" for guess in group.proposal.unsure]
    return groups


def _folders(files: Sequence[SampleFile]) -> dict[str, list[SampleFile]]:
    """Directories that hold one call each: several files of one document, one of them with a transcript, and all with the
    same id."""
    by_directory: dict[str, list[SampleFile]] = {}
    for file in files:
        by_directory.setdefault(os.path.dirname(file.path), []).append(file)
    return {directory: listed for directory, listed in by_directory.items() if len(listed) > 1 and _one_call(listed)}


def _one_call(files: Sequence[SampleFile]) -> bool:
    if any(len(file.reads) != 1 or not isinstance(file.values[0] if file.values else None, dict) for file in files):
        return False
    shapes = [Shape.of([file.values[0]]) for file in files]
    spoken = sum((speech := speech_in(shape)) is not None and speech.score >= 2 for shape in shapes)
    ids = [found.value if (found := Finder(shape, ()).call_id()) is not None else None for shape in shapes]
    recordings = [made for file in files if (made := propose(file.values, one_file=False)) is not None and not made.calls]
    return spoken == 1 and not recordings and ids[0] is not None and len(set(ids)) == 1


def _documents(files: Sequence[SampleFile]) -> dict[str, Any]:
    return {_base(file): file.values[0] for file in files}


def _alike(files: Sequence[SampleFile], made: Findings) -> list[list[SampleFile]]:
    """Unknown files with much the same members at the top belong together."""
    found: list[tuple[set[str], list[SampleFile]]] = []
    for file in files:
        values = [value for value in file.values if isinstance(value, dict)]
        if not values:
            made.unsure.append(f"{_base(file)}: {_unread(file)}")
            continue
        names = {name for value in values for name in value}
        near = next((group for group in found if len(group[0] & names) >= 0.5 * len(group[0] | names)), None)
        if near is not None:
            near[1].append(file)
        else:
            found.append((names, [file]))
    return [listed for _, listed in found]


def _no_call(file: SampleFile) -> str:
    members = list(dict.fromkeys(name for value in file.values if isinstance(value, dict) for name in value))
    some = ", ".join(members[:_MEMBERS_SHOWN]) + (", ..." if len(members) > _MEMBERS_SHOWN else "")
    what = "nothing in it looks like a call (an id, a time, who said what) or a recording (a key, a URL); it is left out"
    return f"{what}. Its members: {some or 'none'}"


def _unread(file: SampleFile) -> str:
    refused = [one for one in file.reads if isinstance(one, RefusedDocument)]
    if not refused:
        return "holds no JSON object that could be read; it is left out"
    if any(_SPOKEN_LINE.search(one.head) for one in refused):
        what = "a transcript as lines of text, and tunerd reads JSON: let the agent write each call as a JSON document"
        return f"{what}, with its messages as a list of role, content and timestamp; it is left out"
    return f"{refused[0].refusal.where}: {refused[0].refusal.what}; it is left out"


def _apart(file: SampleFile, environ: Mapping[str, str]) -> SampleFile:
    """The documents in the list of a page, in place of the page."""
    documents = [one for one in file.reads if isinstance(one, Document)]
    if len(documents) != len(file.reads) or recognise(file.reads, environ):
        return file
    rule = list_of_documents(file.values)
    if rule is None:
        return file
    listed = compile_item(rule.removeprefix("doc.")).run
    elements = [element for one in documents for element in elements_of(one, listed(one.value))]
    return SampleFile(file.path, elements, documents=rule)


def _base(file: SampleFile) -> str:
    return os.path.basename(file.path)
