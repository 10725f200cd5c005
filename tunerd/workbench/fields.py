"""Which leaf of an unknown document is which field of a call: by its name, checked by its value."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tunerd.record import positional_record
from tunerd.workbench.shape import (
    Path,
    Shape,
    is_moment,
    is_phone,
    is_url,
    name_words,
    number,
    plain,
    says_end,
    says_start,
    words,
)

_IDS: Final = words(
    "callid callsid calluuid conversationid interactionid contactid sessionid runid uuid id sid channelid uniqueid roomid "
    "roomname room requestid streamsid jobname"
)
_STARTS: Final = words(
    "startedat starttime starttimestamp startat callstart callstarted start began beganat begin answeredat "
    "connectedat initiatedat startts createdat calltime timestamp ts date datetime time"
)
_ENDS: Final = words(
    "endedat endtime endtimestamp endat callend callended end ended finishedat completedat endts disconnectedat "
    "hangupat stoppedat closedat finished"
)
_REASONS: Final = words(
    "disconnectionreason disconnectreason endedreason endreason hangupcause hangupreason terminationreason "
    "closereason endcallreason reason"
)
_CALLERS: Final = words(
    "callerphonenumber callernumber caller callerid customernumber customerphone fromnumber from ani phonenumber "
    "phone usernumber number"
)
_KEYS: Final = words("roomname room roomid callid callsid conversationid sessionid uniqueid uuid id sid")
_URLS: Final = ("url", "location", "uri", "href", "link")
_CALL_WORDS: Final = frozenset(words("call conversation session dialog interaction contact"))
_AUDIO: Final = (".wav", ".mp3", ".ogg", ".m4a", ".flac", ".webm", ".opus", ".mp4", ".aac")


@positional_record
class Found:
    path: Path
    value: Any
    certain: bool = True
    """False: only its place in a list of names speaks for it."""


class Finder:
    """Looks near the transcript first (`home`), then at the top, then everywhere."""

    def __init__(self, shape: Shape, home: Path) -> None:
        self._shape = shape
        self._home = home
        self._paths = sorted(shape.leaves, key=self._distance)

    def _distance(self, path: Path) -> tuple[int, int]:
        parent = path[:-1]
        if parent == self._home:
            return 0, len(path)
        near = parent == self._home[: len(parent)]
        return (1 if near else 2), len(path)

    def named(self, names: Sequence[str], fits: Callable[[Any], bool]) -> Found | None:
        """The nearest leaf with one of these names; the order of the names decides among equals. A name may also be made
        of the last two steps: `call.id` is a `callid`."""
        best: tuple[tuple[int, int, int], Found] | None = None
        for path in self._paths:
            value = self._shape.first(path)
            if value is None or isinstance(value, dict | list) or not fits(value):
                continue
            ranks = [names.index(word) for word in (plain(path[-1]), plain("".join(path[-2:]))) if word in names]
            if not ranks:
                continue
            near, depth = self._distance(path)
            rank = (min(2, near), min(ranks), depth)
            if best is None or rank < best[0]:
                best = (rank, Found(path, value, min(ranks) < len(names) // 2))
        return best[1] if best else None

    def matching(self, fits: Callable[[str, Any], bool]) -> Found | None:
        for path in self._paths:
            for value in self._shape.leaves[path]:
                if value not in (None, "") and fits(plain(path[-1]), value):
                    return Found(path, value)
        return None

    def call_id(self) -> Found | None:
        return self.named(_IDS, lambda value: isinstance(value, str | int) and not isinstance(value, bool) and value != "")

    def key(self) -> Found | None:
        return self.named(_KEYS, lambda value: isinstance(value, str | int) and not isinstance(value, bool) and value != "")

    def start(self) -> Found | None:
        return self._moment(_STARTS, says_start)

    def end(self) -> Found | None:
        return self._moment(_ENDS, says_end)

    def _moment(self, names: Sequence[str], says: Callable[[str], bool]) -> Found | None:
        """By a known name; where the one that is found only has its place in the list of names for it, one whose words say
        it and name the call (`call_start_date`) comes first; last, whatever says it (`ai_start_date`)."""
        known = self.named(names, is_moment)
        if known is not None and known.certain:
            return known
        said = [path for path in self._paths if says(path[-1]) and is_moment(self._shape.first(path))]
        of_call = next((path for path in said if not _CALL_WORDS.isdisjoint(name_words(path[-1]))), None)
        if of_call is not None:
            return Found(of_call, self._shape.first(of_call))
        if known is None and said:
            return Found(said[0], self._shape.first(said[0]), certain=False)
        return known

    def reason(self) -> Found | None:
        return self.named(_REASONS, lambda value: isinstance(value, str))

    def caller(self) -> Found | None:
        return self.named(_CALLERS, is_phone)

    def duration(self) -> Found | None:
        lengths = ("length", "calllength", "talktime", "billsec")
        return self.matching(lambda name, value: ("duration" in name or name in lengths) and number(value) is not None)

    def sentiment(self) -> Found | None:
        words = ("positive", "neutral", "negative", "unknown")
        return self.matching(lambda name, value: "sentiment" in name and isinstance(value, str) and value.casefold() in words)

    def voicemail(self) -> Found | None:
        return self.matching(lambda name, value: "voicemail" in name and isinstance(value, bool))

    def success(self) -> Found | None:
        names = ("callsuccessful", "successful", "tasksuccess", "goalachieved", "issuccessful", "callsuccess")
        return self.matching(lambda name, value: name in names and isinstance(value, bool))

    def cost(self) -> Found | None:
        names = ("cost", "price", "callcost", "totalcost", "costusd", "priceusd")
        return self.matching(lambda name, value: name in names and number(value) is not None)

    def call_type(self) -> Found | None:
        words = ("phone_call", "web_call", "sip_call")
        return self.matching(lambda name, value: isinstance(value, str) and value in words)

    def audio(self) -> Found | None:
        """A URL whose name or ending speaks of audio."""

        def fits(name: str, value: Any) -> bool:
            if not is_url(value):
                return False
            spoken = any(word in name for word in ("record", "audio", "media"))
            return spoken or value.split("?")[0].lower().endswith(_AUDIO)

        return self.matching(fits) or self._in_lists(fits)

    def _in_lists(self, fits: Callable[[str, Any], bool]) -> Found | None:
        """In the first item of a list: `files[0].location`."""
        for path, items in self._shape.lists.items():
            if items and isinstance(items[0], dict):
                for name, value in items[0].items():
                    if fits(plain(name), value) or (is_url(value) and plain(name) in _URLS):
                        return Found((*path[:-1], f"{path[-1]}[0]", name), value)
        return None

    def any_url(self) -> Found | None:
        return self.audio() or self.matching(
            lambda name, value: is_url(value) and name in ("url", "location", "uri", "href", "link")
        )

    def objects(self, names: Sequence[str]) -> Found | None:
        for path in self._paths:
            if plain(path[-1]) in names and len(path) <= len(self._home) + 1:
                value = next((one for one in self._shape.leaves[path] if isinstance(one, dict) and one), None)
                if value is not None:
                    return Found(path, value)
        return None

    def equal(self, value: str) -> Path | None:
        """The path of this value, as text or number."""
        for path in sorted(self._paths, key=len):
            if any(
                not isinstance(one, dict | bool) and one is not None and str(one) == value for one in self._shape.leaves[path]
            ):
                return path
        return None
