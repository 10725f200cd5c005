"""docs/commands.md, made from the commands as click knows them: what each does, its options, and the rest of its help."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

import click

from tunerd.cli import main

_HEAD: Final = """\
# Commands

{made}

```
tunerd --help            # all commands
tunerd COMMAND --help    # what is on this page, for one command
man tunerd               # the same, where the package or `install-service` has installed it
```

`-c FILE` names the configuration, `TUNERD_CONFIG` does the same for all commands, and the default is `/etc/tunerd/config.yaml`. [What
the exit codes mean](troubleshooting.md#exit-codes); [the JSON output](status-json.md).

| command | what it does |
|---|---|
"""


def commands_page(made: str) -> str:
    context = click.Context(main, info_name="tunerd")
    found = [(name, command) for name in main.list_commands(context) if (command := main.get_command(context, name)) is not None]
    table = "".join(f"| [{name}](#tunerd-{name}) | {_cell(command.get_short_help_str(limit=200))} |\n" for name, command in found)
    return _HEAD.format(made=made) + table + "".join(_section(name, command, context) for name, command in found)


def _section(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(["tunerd", name, *command.collect_usage_pieces(context)])
    lines = ["", f"## tunerd {name}", "", "```text", usage, "```", "", *_paragraphs(command.help or "")]
    records = [record for param in command.params if (record := param.get_help_record(context)) is not None]
    if records:
        lines += [
            "| option | meaning |",
            "|---|---|",
            *(f"| `{_piped(option)}` | {_cell(text)} |" for option, text in records),
            "",
        ]
    return "\n".join([*lines, *_paragraphs(command.epilog or "")]).rstrip("\n") + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """A paragraph whose lines click keeps (it starts with a backspace) is a block; the others are filled by the renderer."""
    for paragraph in re.split(r"\n\s*\n", text.expandtabs().strip("\n")):
        first, *rest = paragraph.split("\n")
        if first.strip() == "\b":
            yield from ("```text", *(line.rstrip() for line in textwrap.dedent("\n".join(rest)).splitlines()), "```", "")
        elif paragraph.strip():
            yield from (_marked(" ".join(line.strip() for line in (first, *rest))), "")


def _cell(text: str) -> str:
    return _piped(_marked(text))


def _piped(text: str) -> str:
    return text.replace("|", r"\|")


def _marked(text: str) -> str:
    """Outside of `code`, characters that Markdown would take for markup are escaped."""
    return re.sub(r"(`[^`]*`)|([<>*_\[\]])", lambda found: found[1] or f"\\{found[2]}", text)
