"""The `tunerd ...` commands that the documentation, the messages of the code and the container files name."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.docs.fences import ROOT, pages

_INLINE: Final = re.compile(r"(?<!`)`(?:sudo -u tunerd )?tunerd\s+([^`]+)`(?!`)")
_LINE: Final = re.compile(r"^(?:[#$ ]*|\w+=)(?:/\S*/)?(?:sudo -u tunerd )?tunerd +([a-z-].*)$", re.MULTILINE)
_CHAINED: Final = re.compile(r"(?:&&|\|\|) (?:\S*/)?tunerd\s+(.+)$", re.MULTILINE)
_LISTED: Final = re.compile(r"\[\"?tunerd\"?, ([^\]]*)\]")
_FENCED: Final = re.compile(r"^ *```[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_ENDS: Final = frozenset({"|", "||", "&&", ";", "#", ">", "<", "->", "(backfill:"})


@dataclass(frozen=True, slots=True)
class Named:
    """One command, as a user would type it."""

    where: str
    words: tuple[str, ...]
    """The words after `tunerd`."""

    def __str__(self) -> str:
        return f"{self.where}: tunerd {' '.join(self.words)}"


def named_commands() -> Iterator[Named]:
    """Yield every command that docs, the code's messages, and the files that run tunerd name."""
    for page in pages():
        text, where = page.read_text(), str(page.relative_to(ROOT))
        for block in _FENCED.findall(text):
            yield from _of_lines(block, where)
        yield from _inline(_FENCED.sub("", text), where)
    for file in sorted((ROOT / "tunerd").rglob("*.py")):
        yield from _inline(file.read_text(), str(file.relative_to(ROOT)))
    manifests = (str(file.relative_to(ROOT)) for file in sorted((ROOT / "k8s").rglob("sidecar.yaml")))
    units = ("systemd/tunerd.service", "systemd/tunerd@.service", "deb/postinst")
    for name in ("Dockerfile", "config.example.yaml", *units, *manifests):
        yield from _of_lines((ROOT / name).read_text(), name)


def _inline(text: str, where: str) -> Iterator[Named]:
    for found in _INLINE.findall(text):
        yield from _named(found.replace("`", ""), where)


def _of_lines(text: str, where: str) -> Iterator[Named]:
    for pattern in (_LINE, _CHAINED):
        for found in pattern.findall(text):
            yield from _named(found, where)
    for found in _LISTED.findall(text):
        yield from _named(found.replace(",", " "), where)


def _named(text: str, where: str) -> Iterator[Named]:
    try:
        words = shlex.split(re.sub(r"\s+", " ", text).replace("[", " ").replace("]", " "), comments=True)
    except ValueError:
        words = text.split()
    told: list[str] = []
    for word in words:
        if word in _ENDS:
            break
        told.append(word)
    if told and "{" not in told[0]:
        yield Named(where, tuple(told))
