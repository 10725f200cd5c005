"""Rules for documents that no preset knows, proposed by the names and values of their fields; and what of it is a guess.

The lines are YAML of one source: everything below `path:` and `include:`. Whoever uses them tries them on the documents.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tunerd.workbench.fields import Finder, Found
from tunerd.workbench.row_rules import Proposal, converted, has_moments, row_lines, tools_beside, unit_of_length, with_tools
from tunerd.workbench.shape import (
    AGENT_WORDS,
    SILENT_WORDS,
    USER_WORDS,
    Path,
    Shape,
    Speech,
    is_naive,
    name_words,
    plain,
    plain_speech,
    says_start,
    speech_in,
    speech_of,
)
from tunerd.workbench.written import dotted, literal, quoted, step, steps, yaml_key

_TOOL_WORDS: Final = ("tool", "function", "action")


def propose(values: Sequence[Any], *, one_file: bool) -> Proposal | None:
    """Rules for these documents; None where nothing in them looks like a call or a recording. `one_file`: they all stand
    in one file, so that each may be only a part of a call."""
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return None
    shape = Shape()
    for value in objects:
        shape.add(value)
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
    shape = Shape()
    for folder in folders:
        shape.add({parts[name]: value for name, value in folder.items()})
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
    roles, silent = _roles(speech, made)
    fields = _fields(finder, made, lambda found: dotted(root, found.path), rows_tell=has_moments(speech))
    start = finder.start()
    rows = row_lines(speech, made, finder, dotted(root, speech.path), roles, known_start=start is not None)
    if (tools := tools_beside(shape, speech)) is not None:
        rows = with_tools(rows, dotted(root, tools.path), tools.items)
    made.lines += ["call:", *_table(roles, speech, silent), *fields, *rows]
    made.speaks = bool(roles) or speech.role is None
    if silent:
        made.unsure.append(f"rows of {', '.join(silent)} are left out: nobody says them")
    _where_the_audio_is(finder, made, root)
    return made


def _plain_call(shape: Shape, path: Path, names: Sequence[str]) -> Proposal:
    made = Proposal(calls=True)
    finder = Finder(shape, path[:-1])
    roles = {name: _role_of(name, made, at) for at, name in enumerate(names)}
    made.unsure.append("the transcript is one text without times: its rows are spread over the call, an estimate")
    fields = _fields(finder, made, lambda found: dotted("doc", found.path))
    made.lines += [
        "untimed: spread",
        "call:",
        *_table(roles),
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
    rest = Shape()
    for value in objects:
        if value not in spoken:
            rest.add(value)
    made = Proposal(calls=True)
    finder = Finder(rest, ())
    in_rows = Shape()
    for value in spoken:
        in_rows.add(value)
    shared = Finder(in_rows, ()).named(("callid", "callsid", "conversationid", "sessionid", "roomname", "room"), lambda _: True)
    call_id = shared or finder.call_id()
    key = dotted("doc", call_id.path) if call_id else "file.path"
    made.unsure.append(
        f"each line of the file is a part of a call, gathered by {key}"
        + ("; lines without it belong to the one before" if call_id and not shared else "")
    )
    made.lines += ["gather:", f"  key: {quoted(key)}", "  wait: 5m"]
    made.unsure.append("a call is taken to be over 5 minutes after its last line; `complete:` can tell it sooner")
    roles, silent = _roles(speech, made)

    def expression(found: Found) -> str:
        path = steps(found.path)
        return f"docs[?{path}] | [0].{path}"

    fields = _fields(
        finder, made, expression, call_id=None if call_id is None else expression(call_id), rows_tell=has_moments(speech)
    )
    kind = _kind_of_row(spoken, objects)
    rows = row_lines(speech, made, finder, "docs", roles, known_start=finder.start() is not None, when=kind)
    made.lines += ["call:", *_table(roles, speech, silent), *fields, *rows]
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


def _fields(finder: Finder, made: Proposal, expression: Any, call_id: str | None = None, *, rows_tell: bool = False) -> list[str]:
    """The fields of the call but its rows, as lines under `call:`. `rows_tell`: rows have absolute times."""
    lines: list[str] = []

    def add(name: str, rule: str, comment: str = "") -> None:
        lines.append(f"  {name}: {rule}" + (f"{' ' * max(1, 44 - len(name) - len(rule))}# {comment}" if comment else ""))

    found = finder.call_id()
    if call_id is not None:
        add("call_id", quoted(call_id))
    elif found is not None:
        add("call_id", quoted(expression(found)), "" if found.certain else "a guess: is it one for each call?")
        if not found.certain:
            made.unsure.append(f"call_id is {expression(found)}: it has to differ from call to call")
    else:
        add("call_id", "file.stem", "no id was found: the file's name")
        made.unsure.append("no id of the call was found: the name of the file is taken, so each call needs its own")
    made.key = made.key or (expression(found) if found else "file.stem")
    start, end, caller = finder.start(), finder.end(), finder.caller()
    made.starts_at = start.value if start is not None and says_start(start.path[-1]) else None
    typed = finder.call_type()
    if typed is not None:
        add("call_type", quoted(expression(typed)))
    else:
        kind = "phone_call" if caller is not None else "web_call"
        add("call_type", f"{{const: {kind}}}", "a guess: phone_call, web_call, sip_call, ...")
        made.unsure.append(f"call_type is always {kind}: nothing in the documents says it")
    for name, moment in (("start_timestamp", start), ("end_timestamp", end)):
        if moment is not None:
            add(name, quoted(expression(moment)), "" if moment.certain else "a guess, by its name")
            if not moment.certain:
                made.unsure.append(f"{name} is {expression(moment)}: is it that of the call?")
            if is_naive(moment.value):
                made.unsure.append(f"{expression(moment)} names no time zone: it is read as UTC unless `timezone:` says another")
    length = finder.duration()
    if start is None and (end is not None or rows_tell):
        made.unsure.append("no start of the call was found: its first row tells it, if rows have absolute times")
    elif start is None:
        add("end_timestamp", "file.mtime", "a guess: when the file was written")
        made.unsure.append("no time of the call was found: it is taken to have ended when its file was written")
    if length is not None and (start is None or end is None):
        unit, sure = unit_of_length(length, start, end)
        add("duration_ms", quoted(converted(expression(length), unit)))
        if not sure:
            made.unsure.append(f"{expression(length)} is taken for {unit}")
    if caller is not None:
        add("caller_phone_number", quoted(expression(caller)))
    for name, optional in (
        ("disconnection_reason", finder.reason()),
        ("in_voicemail", finder.voicemail()),
        ("call_successful", finder.success()),
        ("metadata", finder.objects(("metadata", "meta", "custom", "customdata"))),
        ("collected_dynamic_variables", finder.objects(("variables", "dynamicvariables", "collecteddynamicvariables"))),
        ("call_analysis", finder.objects(("analysis", "callanalysis", "postcallanalysis"))),
    ):
        if optional is not None:
            add(name, quoted(expression(optional)))
    if (mood := finder.sentiment()) is not None:
        add("user_sentiment", quoted(f"lower({expression(mood)})"))
    if (cost := finder.cost()) is not None:
        add("call_cost", quoted(f"multiply({expression(cost)}, 100)"), "dollars -> cents")
        made.unsure.append(f"{expression(cost)} is taken for dollars: Tuner wants cents")
    return lines


def _roles(speech: Speech, made: Proposal) -> tuple[dict[str, str], list[str]]:
    """What each role of the documents becomes, and those that become nothing."""
    if speech.role is None:
        made.unsure.append("nothing says who speaks: every row is taken for the user's")
        return {}, []
    roles: dict[str, str] = {}
    silent: list[str] = []
    words = list(speech.roles)[:20]
    both_known = {"agent", "user"} <= {_known_role(word) for word in words}
    for word in words:
        known = _known_role(word)
        if known is None and not SILENT_WORDS.isdisjoint(name_words(word)):
            silent.append(word)
            continue
        if known is None and both_known and (known := _role_by_part(word)) is None:
            silent.append(word)
            made.unsure.append(f"who is `{word}`? Its rows are left out (null in the table): write agent or user if it speaks")
            continue
        if known is None and both_known:
            made.unsure.append(f"who is `{word}`? It is taken for the {known}")
        roles[word] = known or _role_of(word, made, len(roles))
    return roles, silent


def _role_by_part(word: str) -> str | None:
    """`human_agent`: by a word in it."""
    parts = frozenset(name_words(word))
    return "agent" if not parts.isdisjoint(AGENT_WORDS) else "user" if not parts.isdisjoint(USER_WORDS) else None


def _known_role(word: str) -> str | None:
    folded = plain(word)
    if word.casefold() in AGENT_WORDS:
        return "agent"
    if word.casefold() in USER_WORDS:
        return "user"
    if not SILENT_WORDS.isdisjoint(name_words(word)):
        return None
    if any(part in folded for part in _TOOL_WORDS):
        return (
            "agent_result"
            if folded == "tool" or any(part in folded for part in ("result", "output", "response"))
            else "agent_function"
        )
    return None


def _role_of(word: str, made: Proposal, at: int) -> str:
    known = _known_role(word)
    if known is None:
        known = "agent" if at == 0 else "user"
        made.unsure.append(f"who is `{word}`? It is taken for the {known}")
    return known


def _table(roles: dict[str, str], speech: Speech | None = None, silent: Sequence[str] = ()) -> list[str]:
    if not roles and (speech is None or speech.role is None):
        return []
    named = {**roles, **dict.fromkeys(silent, "null")}
    members = ", ".join(f"{yaml_key(word)}: {role}" for word, role in named.items())
    return ["  let:", f"    roles: {{const: {{{members}}}}}"]


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
