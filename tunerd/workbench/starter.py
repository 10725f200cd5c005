"""Files of a team -> a commented configuration that maps them: a source for each platform that is recognised, proposed rules
for what is not, and what of it was a guess. Pure: files are read by the command.
"""

import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from itertools import takewhile
from typing import Any, Final

from tunerd.call import Call, Document, Recording, RefusedDocument
from tunerd.config import Source
from tunerd.config.settings import keys_of
from tunerd.mapping.elements import elements_of
from tunerd.mapping.expressions import compile_item
from tunerd.workbench.catalogue import PresetInfo, preset_info
from tunerd.workbench.evaluation import mapped, units
from tunerd.workbench.fields import Finder
from tunerd.workbench.pages import list_of_documents
from tunerd.workbench.propose import propose, propose_folder
from tunerd.workbench.recognise import PLACEHOLDER, Match, compiled_preset, recognise
from tunerd.workbench.rival import loses
from tunerd.workbench.row_rules import Proposal
from tunerd.workbench.shape import Shape, speech_in
from tunerd.workbench.written import dotted, quoted, yaml_text

_DEFAULT_INCLUDE: Final = keys_of(Source)["include"].default
_MEMBERS_SHOWN: Final = 8
_SPOKEN_LINE: Final = re.compile(
    rb"(?:^|[\])\d>-])\s*(?:user|assistant|agent|bot|caller|customer)\s*:", re.IGNORECASE | re.MULTILINE
)
"""`[2026-07-01T10:00:01+00:00] user: Hello`."""
_WORD_END: Final = re.compile(r"(?<=[A-Za-z0-9])[_.-]")
_ENDING: Final = re.compile(r"\.[A-Za-z]+(?:\.gz)?$")
_SPOOL: Final = "/var/spool/{name}"
_LOOKED_AT: Final = 60


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
        return [one.value for one in self.reads[:_LOOKED_AT] if isinstance(one, Document)]


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
    def gives_calls(self) -> bool:
        return self.preset.calls if self.preset else bool(self.proposal and self.proposal.calls)


@dataclass(slots=True)
class Starter:
    """A configuration, and what was found and guessed on the way, one line each."""

    text: str
    found: list[str] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)


def starter(
    files: Sequence[SampleFile], environ: Mapping[str, str], *, workspace_id: int | None = None, agent: str | None = None
) -> Starter:
    """The configuration for these files; without any, a short one to begin with."""
    made = Starter("")
    files = [_apart(file, environ) for file in files]
    groups = _groups(files, environ, made) if files else []
    lines = _head(workspace_id, agent)
    if not files:
        lines += _EMPTY
    for at, group in enumerate(groups):
        lines += [*([""] if at else []), *_source(group, groups, environ, made)]
    present = {group.name for group in groups}
    for name in dict.fromkeys(wanted for group in groups if group.preset for wanted in group.preset.looks_in):
        if name not in present:
            lines += ["", *_absent_source(name, made)]
    if any("manifest: recordings" in line for line in lines) and "recordings" not in present:
        lines += ["", *_OWN_RECORDINGS]
    made.text = "\n".join([*lines, ""])
    return made


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


def _documents_rule(group: FileGroup) -> list[str]:
    """`documents:`, where some files of the group are pages; those that are none give themselves."""
    rules = dict.fromkeys(file.documents or "doc" for file in group.files)
    if not any(rules) or list(rules) == ["doc"]:
        return []
    ordered = sorted(rules, key=lambda rule: rule == "doc")
    shown = [quoted(rule) if not rule.replace(".", "").replace("_", "").isalnum() else rule for rule in ordered]
    return [f"    documents: {shown[0] if len(shown) == 1 else '[' + ', '.join(shown) + ']'}     # each element is a document"]


def _head(workspace_id: int | None, agent: str | None) -> list[str]:
    change = "" if workspace_id else "                         # yours: the number in Tuner's address"
    mine = "" if agent else "        # Tuner's name of your agent; or a rule in a source: `agent: doc.agent_id`"
    return [
        "# tunerd's configuration. All keys, with their defaults: config.example.yaml.",
        "#",
        "#   tunerd check -c config.yaml           tells every mistake at once; --online tries the key, too",
        "#   tunerd explain -c config.yaml FILE    shows what the rules make of a file",
        "#   tunerd run -c config.yaml",
        "",
        "tuner:",
        f"  workspace_id: {workspace_id or 1}{change}",
        f"  agent_remote_identifier: {yaml_text(agent) if agent else 'your-agent'}{mine}",
        "  api_key_file: /etc/tunerd/key           # or the environment variable TUNER_API_KEY",
        "",
        "sources:",
    ]


_EMPTY: Final = [
    "  # Where your agent writes finished calls, one JSON document each. `tunerd init --from FILE` writes this from real files;",
    "  # `tunerd presets` lists ready-made rules of platforms: `preset: vapi` instead of `call:`.",
    "  - name: agent",
    "    path: /var/spool/calls",
    "    call:",
    "      let:",
    "        roles: {const: {assistant: agent, bot: agent, user: user, caller: user, system: null}}",
    "      call_id: doc.call_id",
    "      call_type: [doc.call_type, {const: phone_call}]",
    "      start_timestamp: doc.started_at        # ISO 8601, RFC 2822 or epoch, in s, ms, us or ns",
    "      end_timestamp: doc.ended_at",
    "      transcript_with_tool_calls:",
    "        for_each: {m: doc.messages}",
    "        role: lookup(m.role, roles)          # a role that the table does not name refuses the call",
    "        text: [m.content, m.text]",
    "        start_at: m.timestamp",
    "    recording:                               # where the audio is: tried top to bottom",
    "      - url: doc.recording_url",
    "    # on_missing: hold                       # without a recording the call waits; or fail, or {send: \"https://...\"}",
]  # fmt: skip

_OWN_RECORDINGS: Final = [
    "  # Where the audio is, is told by no file that was looked at. Write one such file for each recording, or say under the",
    "  # source above how the URL is made: `- url: \"concat('https://...', ...)\"`.",
    "  - name: recordings",
    "    path: /var/spool/recordings",
    "    manifest:",
    "      key: doc.call_id",
    "      url: doc.url",
    "",
]


def _groups(files: Sequence[SampleFile], environ: Mapping[str, str], made: Starter) -> list[FileGroup]:
    by_preset: dict[str, list[SampleFile]] = {}
    unknown: list[SampleFile] = []
    for file in files:
        matches = recognise(file.reads, environ)
        file.match = matches[0] if matches else None
        documents = [one for one in file.reads[:_LOOKED_AT] if isinstance(one, Document)]
        if file.match is not None and loses(file.match, documents, environ):
            made.unsure.append(
                f"{_base(file)} looks like {file.match.preset} too, but that preset leaves out times or audio that stand in it"
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
    shapes = [Shape() for _ in files]
    for shape, file in zip(shapes, files, strict=True):
        shape.add(file.values[0])
    spoken = sum((speech := speech_in(shape)) is not None and speech.score >= 2 for shape in shapes)
    ids = [found.value if (found := Finder(shape, ()).call_id()) is not None else None for shape in shapes]
    recordings = [made for file in files if (made := propose(file.values, one_file=False)) is not None and not made.calls]
    return spoken == 1 and not recordings and ids[0] is not None and len(set(ids)) == 1


def _documents(files: Sequence[SampleFile]) -> dict[str, Any]:
    return {_base(file): file.values[0] for file in files}


def _alike(files: Sequence[SampleFile], made: Starter) -> list[list[SampleFile]]:
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


# A source


def _source(group: FileGroup, groups: Sequence[FileGroup], environ: Mapping[str, str], made: Starter) -> list[str]:
    lines: list[str] = []
    if group.preset is not None:
        lines += _comment(f"{group.preset.in_short}. What it maps and lacks: tunerd presets show {group.preset.name}")
    else:
        lines.append("  # Proposed by field names: look at each rule.")
        lines += [line for guess in (group.proposal.unsure if group.proposal else ()) for line in _comment(guess, "- ")]
    root = group.root or _root(group.files)
    lines += [f"  - name: {group.name}", f"    path: {yaml_text(root)}", *_documents_rule(group)]
    others = [file.path for other in groups if other is not group for file in other.files]
    include = patterns(root, [file.path for file in group.files], others)
    if include:
        lines.append(f"    include: [{', '.join(map(yaml_text, include))}]")
        made.unsure += [
            f"{group.name}: `include:` has the name {name} itself: write a pattern that the files to come fit"
            for name in include
            if "*" not in name
        ]
    if any(os.path.dirname(file.path) != root for file in group.files):
        lines.append("    recursive: true")
    if group.preset is not None:
        lines.append(f"    preset: {group.preset.name}")
        lines += [f"    {line}" for line in _overrides(group.preset, environ, made)]
        if group.preset.calls and not group.preset.has_strategies:
            lines += [f"    {line}" for line in _strategies(group, groups, environ, made)]
    elif group.proposal is not None:
        lines += [f"    {line}" for line in group.proposal.lines]
        if group.proposal.calls and not group.proposal.audio:
            lines += [f"    {line}" for line in _strategies(group, groups, environ, made)]
    return lines


def _comment(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        text, 110, initial_indent=f"  # {mark}", subsequent_indent=f"  # {' ' * len(mark)}", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _overrides(preset: PresetInfo, environ: Mapping[str, str], made: Starter) -> list[str]:
    """What the preset wants from the environment, as something to change in the file."""
    lines: list[str] = []
    for variable in preset.environment:
        if variable not in environ:
            made.unsure.append(f"preset {preset.name}: {PLACEHOLDER} stands for where the audio is served: change it")
            name = _let_of(preset.name, variable)
            lines += (
                ["manifest:", "  let:", f"    {name}: {{const: {quoted(PLACEHOLDER)}}}     # or set {variable}"] if name else []
            )
    return lines


def _let_of(preset: str, variable: str) -> str | None:
    from tunerd.mapping import presets

    manifest = presets.load(preset).get("manifest")
    let = manifest.value.get("let") if manifest is not None and isinstance(manifest.value, dict) else None
    members = let.value if let is not None and isinstance(let.value, dict) else {}
    return next((name for name, rule in members.items() if rule.value == f"env.{variable}"), None)


def _strategies(group: FileGroup, groups: Sequence[FileGroup], environ: Mapping[str, str], made: Starter) -> list[str]:
    """Where the audio of a source's calls is: a URL in the documents, recordings among the files, else files to be written."""
    shape = Shape()
    for file in group.files:
        for value in file.values:
            shape.add(value)
    finder = Finder(shape, ())
    gathers = bool(group.preset and group.preset.gathers) or bool(group.proposal and "gather:" in group.proposal.lines)
    for other in groups:
        if not other.gives_calls and (found := _joined(other, finder, environ, gathers=gathers)) is not None:
            return found
    if group.preset is not None and (audio := finder.audio()) is not None:
        made.unsure.append(f"{group.name}: {dotted('doc', audio.path)} is taken for the URL of the audio")
        return ["recording:", f"  - url: {quoted(_expression(audio.path, gathers=gathers))}"]
    call = _first_call(group, environ)
    path = finder.equal(call.call_id) if call is not None else None
    key = _expression(path, gathers=gathers) if path else (group.proposal.key if group.proposal else "file.stem")
    made.unsure.append(
        f"{group.name}: no URL of the audio was found: its recordings have to come as files of a source `recordings`"
    )
    return ["recording:", "  - manifest: recordings", f"    key: {quoted(key)}", "    within: any"]


def _joined(other: FileGroup, finder: Finder, environ: Mapping[str, str], *, gathers: bool) -> list[str] | None:
    """Recordings whose key stands in the calls."""
    for recording in _recordings(other, environ):
        if (path := finder.equal(recording.key)) is not None:
            lines = ["recording:", f"  - manifest: {other.name}", f"    key: {quoted(_expression(path, gathers=gathers))}"]
            return lines if recording.started_at is not None else [*lines, "    within: any"]
    return None


def _expression(path: Sequence[str], *, gathers: bool) -> str:
    if not gathers:
        return dotted("doc", tuple(path))
    inner = dotted("doc", tuple(path)).removeprefix("doc.")
    return f"docs[?{inner}] | [0].{inner}"


def _recordings(group: FileGroup, environ: Mapping[str, str]) -> list[Recording]:
    if group.preset is None:
        shape = Shape()
        for file in group.files:
            for value in file.values:
                shape.add(value)
        key = Finder(shape, ()).key()
        started = bool(group.proposal and group.proposal.has_start)
        reads = [one for file in group.files for one in file.reads if isinstance(one, Document)]
        if key is None or not reads:
            return []
        start = 0.0 if started else None
        return [
            Recording(origin=reads[0].origin, source=group.name, key=str(value), url=None, started_at=start)
            for value in shape.leaves.get(key.path, ())
        ]
    compiled = compiled_preset(group.preset.name, environ)
    made = [mapped(compiled, unit).recording for file in group.files for unit in units(compiled, file.reads[:_LOOKED_AT])]
    return [one for one in made if one is not None]


def _first_call(group: FileGroup, environ: Mapping[str, str]) -> Call | None:
    if group.preset is None:
        return None
    compiled = compiled_preset(group.preset.name, environ)
    reads = [one for file in group.files for one in file.reads[:_LOOKED_AT]]
    return next((call for unit in units(compiled, reads) if (call := mapped(compiled, unit).call) is not None), None)


def _absent_source(name: str, made: Starter) -> list[str]:
    made.unsure.append(f"recordings come from a source `{name}`, of which no file was looked at: its path is a guess")
    return [
        "  # Recordings of the calls above. No file of it was looked at: put its directory here.",
        f"  - name: {name}",
        f"    path: {_SPOOL.format(name=name)}",
        f"    preset: {name}",
    ]


# Paths


def _root(files: Sequence[SampleFile]) -> str:
    directories = {os.path.dirname(file.path) for file in files}
    return directories.pop() if len(directories) == 1 else os.path.commonpath(sorted(directories))


def patterns(root: str, mine: Sequence[str], others: Sequence[str]) -> list[str]:
    """What `include:` has to be so that the source reads its files and not those of others; empty: its default will do."""
    names = [os.path.basename(path) for path in mine]
    strangers = [os.path.basename(path) for path in others if path.startswith(root.rstrip("/") + "/")]

    def good(wanted: Sequence[str]) -> bool:
        def read(name: str) -> bool:
            return any(fnmatch(name, one) for one in wanted)

        return all(map(read, names)) and not any(map(read, strangers))

    if good(_DEFAULT_INCLUDE):
        return []
    endings = sorted({"*" + os.path.splitext(name)[1] for name in names})
    if good(endings):
        return endings
    start = "".join(chars[0] for chars in takewhile(lambda chars: len(set(chars)) == 1, zip(*names, strict=False)))
    narrowed = [f"{start}{ending}" for ending in endings]
    return narrowed if start and good(narrowed) else _globs(sorted(set(names)), strangers)


def _globs(names: Sequence[str], strangers: Sequence[str]) -> list[str]:
    """A pattern for each kind of name: words that differ, or have digits as ids and times do, are a star. Other names stay
    whole."""
    found: list[str] = []
    left = list(names)
    while left:
        name = left[0]
        covers: dict[str, int] = {}
        for pattern, rest in _abridged(name):
            count = sum(fnmatch(one, pattern) for one in left)
            if (count > 1 or re.search(r"\d", rest)) and not any(fnmatch(one, pattern) for one in strangers):
                covers[pattern] = count
        # Of those that cover most the longest: it fits the fewest names that were not seen.
        pattern = max(covers, key=lambda one: (covers[one], len(one)), default=name)
        found.append(pattern)
        left = [one for one in left if one != name and not fnmatch(one, pattern)]
    return found


def _abridged(name: str) -> Iterator[tuple[str, str]]:
    """The name with a star for its last words (the ending stays), or for its first ones; and what the star stands for."""
    ending = _ENDING.search(name)
    stem = name[: ending.start()] if ending else name
    for word in _WORD_END.finditer(stem):
        yield f"{stem[: word.end()]}*{name[len(stem) :]}", stem[word.end() :]
        yield f"*{name[word.start() :]}", stem[: word.start()]


def _base(file: SampleFile) -> str:
    return os.path.basename(file.path)
