"""`tuner:` blocks, at the top and in sources -> Destinations: merging, keys, URLs and names."""

import ssl
from collections.abc import Collection, Mapping
from dataclasses import field, replace
from itertools import chain, count
from typing import Any, Final
from urllib.parse import urlsplit

from tunerd.config import Destination, Secret
from tunerd.config.api_key import KeyUnusable, read_key
from tunerd.config.models import TunerSection
from tunerd.config.text_forms import DEFAULT_BASE_URL, FIRST_LABEL, REMOVED, is_key
from tunerd.loading.reading import ConfigBlock, ConfigReader, join
from tunerd.record import positional_record
from tunerd.yaml_location import Node, YamlLocation

KEY_VARIABLE: Final = "TUNER_API_KEY"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_KEY_KEYS: Final = frozenset({"api_key", "api_key_file"})


@positional_record
class TunerBlock:
    """One `tuner:` block as it was read; empty where there is none."""

    path: str
    location: YamlLocation
    values: Mapping[str, Any] = field(default_factory=dict)
    """By key; only what is there and right."""
    given: frozenset[str] = frozenset()
    """Every key that is there and not null, right or wrong."""

    def over(self, top: "TunerBlock") -> "TunerBlock":
        """This block with what it leaves out taken from `top`; a key of its own, in either form, replaces top's. A `name:` is
        not passed on."""
        hidden = {"name"} | (_KEY_KEYS if self.given & _KEY_KEYS else frozenset())
        return TunerBlock(
            path=self.path if self.given else top.path,
            location=self.location if self.given else top.location,
            values={**{key: value for key, value in top.values.items() if key not in hidden}, **self.values},
            given=self.given | (top.given - hidden),
        )


def read_tuner(reader: ConfigReader, node: Node | None, path: str, absent: YamlLocation) -> TunerBlock:
    """Read one block. `absent` is the place to name when there is none."""
    block = reader.section(node, path, TunerSection, absent)
    values = {name: value for name, value in block.values.items() if value is not None}
    if "api_key" in block.nodes and "api_key_file" in block.nodes:
        block.problem("api_key_file", "`api_key` is given as well; keep one of the two")
    if not reader.resolve_secrets:
        values.pop("api_key", None)
    elif "api_key" in values and not is_key(values["api_key"].reveal()):
        block.problem("api_key", "has characters that no key has: visible ASCII is wanted")
    for name in ("api_key_file", "ca_file"):
        if name in values:
            values[name] = reader.absolute(values[name])
    url = urlsplit(values.get("base_url", ""))
    if url.scheme == "http" and url.hostname not in _LOOPBACK:
        say = "http:// sends the key and the calls unencrypted; write https:// if Tuner is not on this machine"
        block.warn("base_url", say)
    if "ca_file" in values and reader.resolve_secrets:
        _check_ca_file(block, values["ca_file"])
    if "api_key_file" in values and reader.resolve_secrets:
        try:
            read_key(Destination(name="", base_url="", workspace_id=1, api_key_file=values["api_key_file"]))
        except KeyUnusable as exc:
            block.warn("api_key_file", f"{exc}; nothing is sent until it can be used")
    given = frozenset(name for name in block.nodes if block.values.get(name, "") is not None)
    return TunerBlock(path, node.location if node is not None else absent, values, given)


class Destinations:
    """Gives each distinct destination its name; sources with the same settings share one."""

    def __init__(self, reader: ConfigReader, top: TunerBlock) -> None:
        self._reader = reader
        self._top = top
        self._key = reader.environ.get(KEY_VARIABLE, "").strip() if reader.resolve_secrets else ""
        self._told: set[str] = set()
        self._found: dict[str, Destination] = {}
        # The top block's destination has the plain name, whichever source comes first: names are stored with calls.
        self._first = self._make(top) if "workspace_id" in top.values else None
        self._used_by: dict[str, str] = {}
        """Name of a destination -> the first source that uses it."""
        self._labels: dict[str, str] = {}
        """Name of a destination -> its label, where a `name:` gives one."""
        if self._first is not None:
            self._note_label(self._first, top)
        elif "name" in top.values:
            self._tell(top, "name", "names no destination, because no `workspace_id:` is beside it; "
                       "write `name:` in the `tuner:` blocks of the sources")  # fmt: skip

    def of(self, source: str, own: TunerBlock) -> Destination | None:
        """The destination of a source; None with a problem noted. A missing key or workspace is reported once a block."""
        block = own.over(self._top)
        if "workspace_id" not in block.given:
            self._tell(block, "workspace_id", "is missing: the number of the workspace in Tuner, `workspace_id: 42`")
        if self._reader.resolve_secrets and not self._key and not block.given & _KEY_KEYS:
            want = f"`api_key_file: /etc/tunerd/key`, `api_key: ...` or the environment variable {KEY_VARIABLE}"
            self._tell(block, "api_key_file", f"there is no key to send with: {want}")
        if self._key and not is_key(self._key) and not block.given & _KEY_KEYS:
            self._tell(block, "api_key", f"the environment variable {KEY_VARIABLE} has characters that no key has")
        if "workspace_id" not in block.values or ("base_url" in block.given and not block.values.get("base_url")):
            return None
        made = self._make(block)
        destination = next((one for one in self._found.values() if made == replace(one, name=made.name)), None)
        if destination is None:
            is_not_first = self._first is not None and made.name == self._first.name and made != self._first
            taken = made.name in self._found or is_not_first
            destination = replace(made, name=f"{made.name}@{source}") if taken else made
            self._found[destination.name] = destination
            self._used_by[destination.name] = source
        self._note_label(destination, own)
        return destination

    def all(self) -> tuple[Destination, ...]:
        """Every destination that a source uses, in the order of the file, with its label."""
        taken = {REMOVED, *self._labels.values()}
        found = []
        for name, destination in self._found.items():
            label = self._labels.get(name)
            if label is None:
                label = _free(FIRST_LABEL if destination == self._first else self._used_by[name], taken)
                taken.add(label)
            found.append(replace(destination, label=label))
        return tuple(found)

    def _note_label(self, destination: Destination, block: TunerBlock) -> None:
        """The block's `name:`, if it has one: one for each destination, and no two destinations have the same."""
        given = block.values.get("name")
        if given is None:
            return
        own = self._labels.get(destination.name, given)
        owner = next((name for name, label in self._labels.items() if label == given), destination.name)
        if own != given:
            self._tell(block, "name", f"this destination already has the name {own}; keep one of the two")
        elif owner != destination.name:
            self._tell(block, "name", f"is already the name of the destination {owner}; each needs its own")
        else:
            self._labels[destination.name] = given

    def _make(self, block: TunerBlock) -> Destination:
        values = {key: value for key, value in block.values.items() if key not in ("agent_remote_identifier", "name")}
        values["base_url"] = values.get("base_url") or DEFAULT_BASE_URL
        if self._key and not values.keys() & _KEY_KEYS:
            values["api_key"] = Secret(self._key)
        return Destination(name=f"{values['base_url'].partition('://')[2]}/{values['workspace_id']}", **values)

    def _tell(self, block: TunerBlock, key: str, message: str) -> None:
        path = join(block.path, key)
        if path not in self._told:
            self._told.add(path)
            self._reader.problem(block.location, path, message)


def _free(label: str, taken: Collection[str]) -> str:
    """The label, or with a number behind it where another destination has it."""
    return next(one for one in chain((label,), (f"{label}-{number}" for number in count(2))) if one not in taken)


def _check_ca_file(block: ConfigBlock, ca_file: str) -> None:
    try:
        ssl.create_default_context(cafile=ca_file)
    except FileNotFoundError:
        block.problem("ca_file", f"there is no file {ca_file}")
    except ssl.SSLError:
        block.problem("ca_file", f"{ca_file} holds no certificates in PEM form")
    except OSError as exc:
        block.problem("ca_file", f"{ca_file} cannot be read: {exc.strerror or type(exc).__name__}")
