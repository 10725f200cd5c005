"""The man page tunerd(1), made from the commands as click knows them: text, arguments, options, examples, exit codes."""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

import click

from tunerd import __version__
from tunerd.cli import main

_HEAD: Final = r""".\" Made by `make docs`. Change the help texts in tunerd/cli/, not this page.
.TH TUNERD 1 "" "tunerd {version}" "User commands"
.SH NAME
tunerd \- deliver every finished voice call, with its recording, to Tuner
.SH SYNOPSIS
.B tunerd
.I COMMAND
.RI [ OPTION ]...\ [ ARGUMENT ]...
.SH DESCRIPTION
.B tunerd run
reads finished calls from the directories of its configuration, keeps them in a ledger, and posts each one to Tuner, with its
recording. The other commands ask the running daemon, try rules on files, or manage calls that failed. Each command knows
.BR \-\-help .
"""
_FOOT: Final = r""".SH FILES
.TP
.I /etc/tunerd/config.yaml
The configuration, if neither \fB\-c\fP nor \fBTUNERD_CONFIG\fP names another one.
.TP
.I /etc/tunerd/key
The API key, if the configuration says so.
.TP
.I /var/lib/tunerd/ledger.db
The ledger.
.TP
.I /run/tunerd
The control socket of the service.
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1)
"""


def man_page() -> str:
    context = click.Context(main, info_name="tunerd")
    names = main.list_commands(context)
    sections = [_command(name, main.get_command(context, name), context) for name in names]
    return _HEAD.format(version=__version__) + ".SH COMMANDS\n" + "".join(sections) + _environment() + _FOOT


def _command(name: str, command: click.Command | None, parent: click.Context) -> str:
    assert command is not None
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join(["tunerd", name, *command.collect_usage_pieces(context)])
    lines = [f".SS {_escaped(usage)}", *_paragraphs(command.help or "")]
    for param in command.params:
        record = param.get_help_record(context)
        if record is not None and record[1]:
            lines += [".TP", f".B {_escaped(record[0])}", _marked(record[1])]
    return "\n".join([*lines, *_paragraphs(command.epilog or "")]) + "\n"


def _paragraphs(text: str) -> Iterator[str]:
    """As click shows them: the lines of a paragraph that starts with a backspace are kept, others are filled."""
    for paragraph in re.split(r"\n\s*\n", text.expandtabs().strip("\n")):
        lines = paragraph.split("\n")
        if not paragraph.strip():
            continue
        yield ".PP"
        if lines[0].strip() == "\b":
            shown = textwrap.dedent("\n".join(lines[1:])).splitlines()
            yield from (".nf", *(_marked(line.rstrip()) for line in shown), ".fi")
        else:
            yield _marked(" ".join(line.strip() for line in lines))


def _environment() -> str:
    """Every variable that gives an option its value."""
    options: dict[str, str] = {}
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        for param in command.params if command is not None else []:
            if isinstance(param.envvar, str):
                options[param.envvar] = max(param.opts, key=len)
    lines = [f".TP\n.B {_escaped(name)}\nThe value of \\fB{_escaped(option)}\\fP.\n" for name, option in sorted(options.items())]
    return ".SH ENVIRONMENT\n" + "".join(lines)


def _marked(text: str) -> str:
    """Escaped, and `code` in bold."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fP", _escaped(text))


def _escaped(text: str) -> str:
    """Text that groff prints as it is: no escapes, hyphens that can be copied, no line that looks like a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti").replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
