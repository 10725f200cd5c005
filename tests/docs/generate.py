"""The generated pages: functions.md from the registry, presets/*.md from the presets' YAML, the index of decisions/,
tunerd.1 and commands.md from the commands.

`python -m tests.docs.generate` (or `make docs`) writes them; a test fails when they are out of date.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.docs.commands_page import commands_page
from tests.docs.fences import DOCS
from tests.docs.manual import man_page
from tunerd.mapping import presets
from tunerd.mapping.functions import FUNCTIONS, Function, Nulls
from tunerd.yaml_location import Node

_MADE: Final = "<!-- made by `make docs`; change the code, not this page -->"
_WORDS: Final = ("let", "refuse", "when")
PRESET_AUDIO: Final = Path(__file__).with_name("preset_audio")
HEADS: Final = {"from": "Where the file comes from", "maps": "What is mapped", "lacks": "What the platform does not give"}
KEPT: Final = ("README.md", "choices.md")
"""Pages under presets/ that do not belong to one preset: the index is generated here, choices.md is written by hand."""


def made_pages() -> dict[Path, str]:
    """Map every generated page to its content."""
    pages = {
        DOCS / "functions.md": _functions_page(),
        DOCS / "presets" / "README.md": _index_page(),
        DOCS / "decisions" / "README.md": _decisions_page(),
        DOCS / "tunerd.1": man_page(),
        DOCS / "commands.md": commands_page(_MADE),
    }
    return pages | {DOCS / "presets" / f"{name}.md": _preset_page(name) for name in presets.names()}


def outdated() -> list[str]:
    """List pages whose content differs from what would be generated now, and pages of presets that no longer exist."""
    made = made_pages()
    wrong = [page for page, text in made.items() if not page.exists() or page.read_text() != text]
    left = [page for page in (DOCS / "presets").glob("*.md") if page not in made and page.name not in KEPT]
    return sorted(str(page.relative_to(DOCS)) for page in (*wrong, *left))


def write() -> list[str]:
    """Write the pages, and return the names of those that changed."""
    changed = outdated()
    made = made_pages()
    for name in changed:
        page = DOCS / name
        if page in made:
            page.write_text(made[page])
        else:
            page.unlink()
    return changed


# Decisions.


def _decisions_page() -> str:
    lines = [
        "# Decisions",
        "",
        _MADE,
        "",
        "What would surprise a reader of the code or an operator, and why tunerd does it. One page per subject.",
        "",
    ]
    for page in sorted((DOCS / "decisions").glob("*.md")):
        if page.name != "README.md":
            title = page.read_text().partition("\n")[0].lstrip("# ").strip()
            lines.append(f"- [{page.stem}]({page.name}): {title}")
    return "\n".join([*lines, ""])


# Functions.


def _functions_page() -> str:
    own = [function for function in FUNCTIONS.values() if not function.built_in]
    known = [function for function in FUNCTIONS.values() if function.built_in]
    return "\n".join(
        [
            "# Functions",
            "",
            _MADE,
            "",
            "Rules can call these functions; [rules.md](rules.md) has examples. A function of null gives null, unless the last column",
            "says otherwise. A value of the wrong kind is an error; the message names the rule, the function and the kind of value,",
            "never the value.",
            "",
            *_table(own),
            "",
            "## JMESPath's own",
            "",
            'In tunerd, these functions of null give null, too: `length(null)` is null, and `to_string(null)` is not the text "null".',
            "",
            *_table(known),
            "",
        ]
    )


def _table(functions: Sequence[Function]) -> list[str]:
    rows = ["| function | gives | null |", "|---|---|---|"]
    for one in functions:
        nulls = "" if one.nulls is Nulls.GIVE_NULL else one.nulls.value
        rows.append(f"| {_code(one.signature)} | {_cell(one.does)} | {nulls} |")
    return rows


# Presets.


@dataclass(frozen=True, slots=True)
class Preset:
    """A preset as its YAML says it."""

    name: str
    heads: Mapping[str, str]
    """from, maps, lacks: a paragraph each."""
    members: Mapping[str, Node]
    lines: Sequence[str]

    @property
    def gives(self) -> str:
        kinds = [word for word, member in (("calls", "call"), ("recordings", "manifest")) if member in self.members]
        return " and ".join(kinds)


def preset(name: str) -> Preset:
    text = presets.text(name)
    return Preset(name, heads_of(text), presets.load(name), text.splitlines())


def heads_of(text: str) -> dict[str, str]:
    """The comment block at the top: `# from: ...`, `# maps: ...`, `# lacks: ...`, `# audio: ...`, each over several lines."""
    heads: dict[str, list[str]] = {}
    current = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        found = re.match(r"# (from|maps|lacks|audio): *(.*)", line)
        if found:
            current = found[1]
            heads[current] = [found[2]]
        elif current:
            heads[current].append(line.lstrip("# ").rstrip())
    told = {head: " ".join(parts) for head, parts in heads.items()}
    return {head: re.sub(r"^[a-z](?=[a-z' ])", lambda first: first[0].upper(), text) for head, text in told.items()}


def _index_page() -> str:
    every = [preset(name) for name in presets.names()]
    lines = [
        "# Presets",
        "",
        _MADE,
        "",
        "Presets are ready-made rules for voice platforms. A source needs only `preset: NAME`; rules beside it",
        "[change single fields](../rules.md#changing-a-preset). [Choices](choices.md) explains why some presets map as they do.",
    ]
    for title, kind in (("Calls", "call"), ("Recordings (manifests)", "manifest")):
        lines += ["", f"## {title}", "", "| preset | where the file comes from |", "|---|---|"]
        lines += [
            f"| [{one.name}]({one.name}.md) | {_cell(_in_short(one.heads.get('from', '')))} |"
            for one in every
            if kind in one.members
        ]
    return "\n".join([*lines, ""])


def _preset_page(name: str) -> str:
    one = preset(name)
    lines = [f"# Preset {name}: {one.gives}", "", _MADE, ""]
    for head, title in HEADS.items():
        lines += [f"**{title}.** {_marked(one.heads.get(head, '-'))}", ""]
    if "needs_audio" not in one.members:
        lines += ["## In a configuration", "", "```yaml sources", *_configuration(one), "```", ""]
    lines += _how_audio_arrives(one)
    for kind, title in (("call", "Fields of the call"), ("manifest", "Fields of the recording")):
        if kind in one.members:
            lines += _fields(one, kind, title)
    for member in one.members:
        if member not in ("call", "manifest", "untimed", "recording", "needs_audio"):
            lines += [f"## {member}", "", "```yaml shown", *_slice(one, member), "```", ""]
    if "recording" in one.members:
        lines += ["## Where the recording is", "", "```yaml shown", *_slice(one, "recording"), "```", ""]
    elif "call" in one.members:
        lines += [
            "## Where the recording is",
            "",
            "Add `recording:` to your configuration ([recordings](../recordings.md)).",
            "",
        ]
    if "untimed" in one.members:
        what = "estimated" if one.members["untimed"].value == "spread" else "refused"
        lines += [f"Speech without a time is {what} (`untimed: {one.members['untimed'].value}`).", ""]
    lines += [f"`tunerd presets show {name}` prints the whole preset.", ""]
    return "\n".join(lines)


def _how_audio_arrives(one: Preset) -> list[str]:
    if "audio" not in one.heads:
        return []
    lines = ["## How the audio reaches Tuner", "", _marked(one.heads["audio"]), ""]
    for text in audio_configurations(one.name):
        comment = [line.lstrip("# ") for line in text.splitlines() if line.startswith("#")]
        rest = [line for line in text.splitlines() if not line.startswith("#")]
        lines += [" ".join(comment), "", "```yaml sources", *rest, "```", ""]
    return lines


def audio_configurations(name: str) -> list[str]:
    """The configurations of preset_audio/NAME.yaml; each begins with a comment that says what it is for."""
    file = PRESET_AUDIO / f"{name}.yaml"
    return [part.strip() for part in file.read_text().split("---\n")] if file.exists() else []


def _configuration(one: Preset) -> list[str]:
    lines = ["sources:", *_source(one.name)]
    if "call" in one.members and "recording" not in one.members:
        url = "docs[?recording_url] | [0].recording_url" if "gather" in one.members else "doc.recording_url"
        lines += ["    recording:", f"      - url: {url}   # your rule: the URL of the audio"]
    for name in _looked_for(one):
        lines += _source(name)
    if "manifest" in one.members and "call" not in one.members:
        within = "10m" if _has_start(one) else "any"
        lines += [
            "  - name: agent",
            "    path: /var/spool/calls",
            "    preset: tuner            # or another preset, or your own rules",
            "    recording:",
            f"      - {{manifest: {one.name}, key: doc.recording_key, within: {within}}}   # your rule: the key in the call",
        ]
    return lines


def _source(name: str) -> list[str]:
    return [f"  - name: {name}", f"    path: /var/spool/{name}", f"    preset: {name}"]


def _looked_for(one: Preset) -> list[str]:
    """The manifest sources that the preset's strategies name."""
    node = one.members.get("recording")
    items = node.value if node is not None and isinstance(node.value, tuple) else ()
    names = [str(item.value["manifest"].value) for item in items if isinstance(item.value, dict) and "manifest" in item.value]
    return [name for name in dict.fromkeys(names) if name in presets.names()]


def _has_start(one: Preset) -> bool:
    manifest = one.members["manifest"].value
    return isinstance(manifest, dict) and "started_at" in manifest


def _fields(one: Preset, kind: str, title: str) -> list[str]:
    mapping = one.members[kind]
    assert isinstance(mapping.value, dict)
    rows, blocks = [], []
    for name, rule in mapping.value.items():
        if name in _WORDS:
            blocks.append((name, _slice(one, kind, name)))
        elif isinstance(rule.value, dict) or (
            isinstance(rule.value, tuple) and any(isinstance(r.value, dict) for r in rule.value)
        ):
            short = _flow(rule) if isinstance(rule.value, dict) else None
            if short is None:
                blocks.append((name, _slice(one, kind, name)))
                rows.append(f"| `{name}` | below |")
            else:
                rows.append(f"| `{name}` | {_code(short)} |")
        else:
            rows.append(f"| `{name}` | {_rule(rule)} |")
    lines = [f"## {title}", "", "| field | rule |", "|---|---|", *rows, ""]
    order = [*(block for block in blocks if block[0] in _WORDS), *(block for block in blocks if block[0] not in _WORDS)]
    if order:
        lines += ["```yaml shown", *(line for _, text in order for line in text), "```", ""]
    return lines


def _rule(rule: Node) -> str:
    if rule.value is None:
        return "none"
    if isinstance(rule.value, tuple):
        return "first of " + ", ".join(_rule(item) for item in rule.value)
    return _code(" ".join(str(rule.value).split()))


def _flow(rule: Node) -> str | None:
    """A short constant or object as one line; None if it needs several lines."""
    if not isinstance(rule.value, dict) or any(isinstance(each.value, dict | tuple) for each in rule.value.values()):
        return None
    text = "{" + ", ".join(f"{name}: {each.value}" for name, each in rule.value.items()) + "}"
    return text if len(text) <= 100 and not rule.value.keys() & {"for_each", "rows"} else None


def _slice(one: Preset, *path: str) -> list[str]:
    """The lines of a member as they are in the file, with the indent removed."""
    keys: Mapping[str, int]
    if len(path) == 1:
        keys = {name: _key_line(one, name) for name in one.members}
    else:
        node = one.members[path[0]]
        keys = {name: place.line for name, place in (node.keys or {}).items()}
    begin = keys[path[-1]]
    indent = len(one.lines[begin - 1]) - len(one.lines[begin - 1].lstrip())
    taken = [one.lines[begin - 1]]
    for line in one.lines[begin:]:
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        taken.append(line)
    while taken and not taken[-1].strip():
        taken.pop()
    return [line[indent:].rstrip() for line in taken]


def _key_line(one: Preset, name: str) -> int:
    return next(number for number, line in enumerate(one.lines, 1) if line.startswith(f"{name}:"))


# Markdown.


def _in_short(text: str) -> str:
    first = re.split(r"(?<=\.)\s", text, maxsplit=1)[0].rstrip(".;")
    return _marked(first if len(first) <= 160 else first[:160].rsplit(" ", 1)[0].rstrip(",:;(") + " ...")


def _marked(text: str) -> str:
    """Escape characters in the text of a comment that Markdown would take for markup."""
    return re.sub(r"(?<!`)([<>*])", r"\\\1", text)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


def _code(text: str) -> str:
    ticks = "``" if "`" in text else "`"
    return f"{ticks}{_cell(text)}{ticks}"


if __name__ == "__main__":
    for written in write():
        sys.stdout.write(f"{written}\n")
