"""Rules for documents that no preset knows, proposed by the names and values of their fields; and which rules are guesses.

The lines are YAML of one source: everything below `path:` and `include:`. Whoever uses them tries them on the documents.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tunerd.workbench.field_rules import field_lines
from tunerd.workbench.fields import Finder, Found
from tunerd.workbench.role_rules import role_of, role_table, roles_of
from tunerd.workbench.row_rules import Proposal, has_moments, row_lines, tools_beside, with_tools
from tunerd.workbench.shape import (
    Path,
    Shape,
    Speech,
    plain_speech,
    speech_in,
    speech_of,
)
from tunerd.workbench.written import dotted, literal, quoted, step, steps


def propose(values: Sequence[Any], *, one_file: bool) -> Proposal | None:
    """Rules for these documents; None where nothing in them looks like a call or a recording. `one_file`: they are all
    in one file, so that each may be only a part of a call."""
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return None
    shape = Shape.of(objects)
    speech = speech_in(shape)
    if speech is not None and speech.score >= 2:
        return _call(shape, speech, "doc")
    if (spoken := plain_speech(shape)) is not None:
        return _plain_call(shape, *spoken)
    if one_file and len(objects) > 1 and (events := _events(objects)) is not None:
        return events
    if speech is not None:
        return _call(shape, speech, "doc")
    return _recording(shape)


def propose_folder(folders: Sequence[Mapping[str, Any]]) -> Proposal | None:
    """Rules for calls that are a folder each: its files by name, with the document in each. None where none of the files
    holds a transcript."""
    parts = {name: part_name(name) for name in dict.fromkeys(name for folder in folders for name in folder)}
    if len(set(parts.values())) < len(parts):
        return None
    shape = Shape.of({parts[name]: value for name, value in folder.items()} for folder in folders)
    speech = speech_in(shape)
    if speech is None or speech.score < 2:
        return None
    made = _call(shape, speech, "")
    listed = ", ".join(f"{part}: {quoted(f'file.name == {literal(name)}')}" for name, part in parts.items())
    gather = [
        "gather:",
        "  key: file.dir",
        f"  parts: {{{listed}}}",
        f"  complete: {quoted(' && '.join(parts.values()))}",
        "  wait: 2m",
    ]
    made.lines[:0] = gather
    made.unsure.append(f"a folder is a call, complete with {', '.join(parts)}; without one of them it is mapped after 2 minutes")
    return made


def part_name(file: str) -> str:
    """`call-metadata.json` -> `call_metadata`."""
    word = re.sub(r"[^a-z0-9]+", "_", file.lower().split(".")[0]).strip("_") or "part"
    return f"part_{word}" if word[0].isdigit() or word in ("doc", "docs", "file", "env") else word


# Calls


def _call(shape: Shape, speech: Speech, root: str) -> Proposal:
    made = Proposal(calls=True)
    finder = Finder(shape, speech.path[:-1])
    roles, silent = roles_of(speech, made)
    fields = field_lines(finder, made, lambda found: dotted(root, found.path), rows_tell=has_moments(speech))
    start = finder.start()
    rows = row_lines(speech, made, finder, dotted(root, speech.path), roles, known_start=start is not None)
    if (tools := tools_beside(shape, speech)) is not None:
        rows = with_tools(rows, dotted(root, tools.path), tools.items)
    made.lines += ["call:", *role_table(roles, speech, silent), *fields, *rows]
    made.speaks = bool(roles) or speech.role is None
    if silent:
        made.unsure.append(f"rows of {', '.join(silent)} are left out: nobody says them")
    _where_the_audio_is(finder, made, root)
    return made


def _plain_call(shape: Shape, path: Path, names: Sequence[str]) -> Proposal:
    made = Proposal(calls=True)
    finder = Finder(shape, path[:-1])
    roles = {name: role_of(name, made, at) for at, name in enumerate(names)}
    made.unsure.append("the transcript is one text without times: its rows are spread over the call, an estimate")
    fields = field_lines(finder, made, lambda found: dotted("doc", found.path))
    made.lines += [
        "untimed: spread",
        "call:",
        *role_table(roles),
        *fields,
        "  transcript_with_tool_calls:",
        f"    for_each: {{turn: {quoted('turns(' + dotted('doc', path) + ', roles)')}}}",
        "    role: lookup(turn.who, roles)",
        "    text: turn.text",
    ]
    _where_the_audio_is(finder, made, "doc")
    return made


def _events(objects: Sequence[dict[str, Any]]) -> Proposal | None:
    """A log whose lines are the rows of a call, perhaps with a line for its start and its end."""
    spoken = [value for value in objects if speech_of(("turns",), [value]) is not None]
    speech = speech_of(("turns",), spoken)
    if speech is None or len(spoken) < 2 or speech.role is None:
        return None
    made = Proposal(calls=True)
    finder = Finder(Shape.of(value for value in objects if value not in spoken), ())
    shared = Finder(Shape.of(spoken), ()).named(
        ("callid", "callsid", "conversationid", "sessionid", "roomname", "room"), lambda _: True
    )
    call_id = shared or finder.call_id()
    key = dotted("doc", call_id.path) if call_id else "file.path"
    made.unsure.append(
        f"each line of the file is a part of a call, gathered by {key}"
        + ("; lines without it belong to the one before" if call_id and not shared else "")
    )
    made.lines += ["gather:", f"  key: {quoted(key)}", "  wait: 5m"]
    made.unsure.append("a call is taken to be over 5 minutes after its last line; `complete:` can tell it sooner")
    roles, silent = roles_of(speech, made)

    def expression(found: Found) -> str:
        path = steps(found.path)
        return f"docs[?{path}] | [0].{path}"

    fields = field_lines(
        finder, made, expression, call_id=None if call_id is None else expression(call_id), rows_tell=has_moments(speech)
    )
    kind = _kind_of_row(spoken, objects)
    rows = row_lines(speech, made, finder, "docs", roles, known_start=finder.start() is not None, when=kind)
    made.lines += ["call:", *role_table(roles, speech, silent), *fields, *rows]
    audio = finder.audio()
    made.audio = audio is not None
    made.key = expression(call_id) if call_id else "file.stem"
    if audio is not None:
        made.lines += ["recording:", f"  - url: {quoted(expression(audio))}"]
    return made


def _kind_of_row(spoken: Sequence[dict[str, Any]], objects: Sequence[dict[str, Any]]) -> str:
    """The member that tells rows from other lines: `m.event == 'turn'`."""
    for name, value in spoken[0].items():
        alike = isinstance(value, str) and all(one.get(name) == value for one in spoken)
        if alike and not any(one.get(name) == value for one in objects if one not in spoken):
            return f"m.{step(name)} == {literal(value)}" if len(spoken) < len(objects) else ""
    return ""


# Recordings


def _where_the_audio_is(finder: Finder, made: Proposal, root: str) -> None:
    audio = finder.audio()
    made.audio = audio is not None
    if audio is not None:
        made.lines += ["recording:", f"  - url: {quoted(dotted(root, audio.path))}"]
        if not str(audio.value).startswith("http"):
            made.unsure.append(f"{dotted(root, audio.path)} is no http URL: Tuner fetches the audio, so build one with concat()")


def _recording(shape: Shape) -> Proposal | None:
    finder = Finder(shape, ())
    url, key = finder.any_url(), finder.key()
    if url is None or key is None:
        return None
    made = Proposal(calls=False)
    start = finder.start()
    made.has_start = start is not None
    made.lines += ["manifest:", f"  key: {quoted(dotted('doc', key.path))}", f"  url: {quoted(dotted('doc', url.path))}"]
    if start is not None:
        made.lines.append(f"  started_at: {quoted(dotted('doc', start.path))}")
    made.unsure.append(f"recordings are found by {dotted('doc', key.path)}: calls need the same value")
    return made
