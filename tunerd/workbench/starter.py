"""Files of a team -> a commented configuration that maps them: a source for each platform that is recognised, proposed rules
for what is not, and a list of the guesses. Pure: files are read by the command.
"""

import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tunerd.call import Call, Document, Recording
from tunerd.location import LocationKind, stored_location
from tunerd.mapping import presets
from tunerd.workbench.catalogue import PresetInfo
from tunerd.workbench.evaluation import mapped, units
from tunerd.workbench.fields import Finder
from tunerd.workbench.file_groups import LOOKED_AT, FileGroup, Findings, SampleFile, grouped
from tunerd.workbench.include_patterns import common_directory, patterns
from tunerd.workbench.recognise import PLACEHOLDER, compiled_preset
from tunerd.workbench.written import dotted, quoted, yaml_text

_SPOOL: Final = "/var/spool/{name}"
_AUDIO_FILES: Final = "/var/lib/recordings"


@dataclass(slots=True)
class Starter(Findings):
    """A configuration, and what was found on the way."""

    text: str = ""


def starter(
    files: Sequence[SampleFile], environ: Mapping[str, str], *, workspace_id: int | None = None, agent: str | None = None
) -> Starter:
    """The configuration for these files; without any, a short one to begin with."""
    made = Starter()
    groups = grouped(files, environ, made)
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
        "#   tunerd check -c config.yaml           lists every problem; --online also tries address and key",
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
    "  # None of the files that were read says where the audio is. Write one such file for each recording, or say under the",
    "  # source above how the URL is made: `- url: \"concat('https://...', ...)\"`.",
    "  - name: recordings",
    "    path: /var/spool/recordings",
    "    manifest:",
    "      key: doc.call_id",
    "      url: doc.url",
    "",
]


# A source


def _source(group: FileGroup, groups: Sequence[FileGroup], environ: Mapping[str, str], made: Findings) -> list[str]:
    lines: list[str] = []
    if group.preset is not None:
        lines += _comment(f"{group.preset.in_short}. What it maps and lacks: tunerd presets show {group.preset.name}")
    else:
        lines.append("  # Proposed by field names: look at each rule.")
        lines += [line for guess in (group.proposal.unsure if group.proposal else ()) for line in _comment(guess, "- ")]
    root = group.root or common_directory([file.path for file in group.files])
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
        lines += [f"    {line}" for line in _overrides(group.preset, groups, environ, made)]
        if group.preset.calls and not group.preset.has_strategies:
            lines += [f"    {line}" for line in _strategies(group, groups, environ, made)]
    elif group.proposal is not None:
        lines += [f"    {line}" for line in group.proposal.lines]
        if group.proposal.calls and not group.proposal.audio:
            lines += [f"    {line}" for line in _strategies(group, groups, environ, made)]
    return lines + _audio(group, groups, lines, environ, made)


def _comment(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        text, 110, initial_indent=f"  # {mark}", subsequent_indent=f"  # {' ' * len(mark)}", break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _audio(
    group: FileGroup, groups: Sequence[FileGroup], lines: Sequence[str], environ: Mapping[str, str], made: Findings
) -> list[str]:
    """How the recordings of a source's calls reach Tuner, where it could not fetch them."""
    if not group.gives_calls:
        return []
    named = [other for other in groups if f"      - manifest: {other.name}" in lines]
    for one in (group, *named):
        needed = one.preset.needs_audio if one.preset is not None else None
        if needed is None or needed.unless_set in environ:
            continue
        if not needed.unless_set:
            return ["    audio: upload"]
        directories = _directories(one, environ)
        made.unsure.append(f"{group.name}: its audio is read from {' and '.join(directories)}: tunerd has to see it there")
        return [
            f"    audio: {{publish: upload, files: [{', '.join(map(yaml_text, directories))}]}}     # or set {needed.unless_set}"
        ]
    return []


def _directories(group: FileGroup, environ: Mapping[str, str]) -> list[str]:
    """Of the files that recordings name."""
    locations = [stored_location(one.location) for one in _recordings(group, environ) if one.location is not None]
    found = {os.path.dirname(location.path) for location in locations if location.kind is LocationKind.FILE}
    return sorted(found) or [_AUDIO_FILES]


def _overrides(preset: PresetInfo, groups: Sequence[FileGroup], environ: Mapping[str, str], made: Findings) -> list[str]:
    """What the preset wants from the environment, as something to change in the file."""
    lines: list[str] = []
    if preset.needs_audio is not None and any(group.gives_calls for group in groups):
        return lines  # the source of the calls uploads the files
    for variable in preset.environment:
        if variable not in environ:
            made.unsure.append(f"preset {preset.name}: {PLACEHOLDER} is a placeholder for the address of the audio: change it")
            name = _let_of(preset.name, variable)
            lines += (
                ["manifest:", "  let:", f"    {name}: {{const: {quoted(PLACEHOLDER)}}}     # or set {variable}"] if name else []
            )
    return lines


def _let_of(preset: str, variable: str) -> str | None:
    manifest = presets.load(preset).get("manifest")
    let = manifest.value.get("let") if manifest is not None and isinstance(manifest.value, dict) else None
    members = let.value if let is not None and isinstance(let.value, dict) else {}
    return next((name for name, rule in members.items() if rule.value == f"env.{variable}"), None)


def _strategies(group: FileGroup, groups: Sequence[FileGroup], environ: Mapping[str, str], made: Findings) -> list[str]:
    """Where the audio of a source's calls is: a URL in the documents, recordings among the files, else files to be written."""
    finder = Finder(group.shape, ())
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
    """Recordings whose key is a value of the calls."""
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
        shape = group.shape
        key = Finder(shape, ()).key()
        started = bool(group.proposal and group.proposal.has_start)
        reads = [one for file in group.files for one in file.reads if isinstance(one, Document)]
        if key is None or not reads:
            return []
        start = 0.0 if started else None
        return [
            Recording(origin=reads[0].origin, source=group.name, key=str(value), location=None, started_at=start)
            for value in shape.leaves.get(key.path, ())
        ]
    compiled = compiled_preset(group.preset.name, environ)
    made = [mapped(compiled, unit).recording for file in group.files for unit in units(compiled, file.reads[:LOOKED_AT])]
    return [one for one in made if one is not None]


def _first_call(group: FileGroup, environ: Mapping[str, str]) -> Call | None:
    if group.preset is None:
        return None
    compiled = compiled_preset(group.preset.name, environ)
    reads = [one for file in group.files for one in file.reads[:LOOKED_AT]]
    return next((call for unit in units(compiled, reads) if (call := mapped(compiled, unit).call) is not None), None)


def _absent_source(name: str, made: Findings) -> list[str]:
    made.unsure.append(f"recordings come from a source `{name}`, of which no file was looked at: its path is a guess")
    return [
        "  # Recordings of the calls above. None of its files was read: put its directory here.",
        f"  - name: {name}",
        f"    path: {_SPOOL.format(name=name)}",
        f"    preset: {name}",
    ]
