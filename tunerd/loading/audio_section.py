"""`audio:` of a source, in its short form (`audio: upload`) or as a mapping: how audio without a URL reaches Tuner."""

import importlib.util
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from tunerd.call import AfterUpload
from tunerd.config import AudioSettings
from tunerd.loading.reading import ConfigBlock, join
from tunerd.location import MAX_URL_CHARS
from tunerd.yaml_location import Node

_WORDS: Final = ("upload", "presign", "reject")
_BUCKET: Final = re.compile(r"\b(?:s3|gs|az)://")
_TAKES: Final = "takes upload, presign, reject or {url: rule}"


def read_audio(source: ConfigBlock) -> AudioSettings:
    """What `audio:` says, with defaults in place of what was wrong."""
    node = source.given("audio")
    if node is None or node.value is None:
        return AudioSettings()
    path = join(source.path, "audio")
    if not isinstance(node.value, dict) or node.value.keys() == {"url"}:
        return AudioSettings(**_publish(source, node, path))
    block = source.reader.section(node, path, AudioSettings)
    if "publish" not in block.nodes:
        block.problem("", f"`publish:` is missing: it {_TAKES}")
    elif (publish := block.given("publish")) is not None:
        block.values |= _publish(block, publish, join(path, "publish"))
    block.values["files"] = tuple(_directory(block, text) for text in block.values.get("files", ()))
    _read_after_upload(block)
    placeholder = block.values.get("placeholder", "")
    if len(placeholder) > MAX_URL_CHARS:
        block.problem("placeholder", f"is longer than the {MAX_URL_CHARS} characters that Tuner takes")
    return AudioSettings(**block.values)


def refuse_audio(source: ConfigBlock, audio: AudioSettings, api: str) -> None:
    """What does not go together with the source's destination, or with what is installed."""
    if audio.publish == "upload" and api == "send-calls":
        say = "create-call keys only, and this source's `tuner:` says `api: send-calls`; use `publish: presign` or `{url: rule}`"
        source.problem("audio", f"`upload` works with {say}")
    if audio.publish != "upload" and audio.after_upload is not AfterUpload.KEEP:
        source.problem("audio.after_upload", "goes with `publish: upload`: nothing else is uploaded, and the files stay")
    if audio.publish == "presign" and not _has_cloud():
        say = "the extra `cloud`, which is not installed here: pip install 'tunerd[cloud]'"
        source.problem("audio", f"`presign` signs objects of buckets, and that needs {say}")


def warn_of_objects(source: ConfigBlock, audio: AudioSettings, rules: Iterable[Node | None]) -> None:
    """`rules`: those that may give locations of its calls."""
    if audio.after_upload is AfterUpload.KEEP:
        return
    if any(node is not None and _BUCKET.search(json.dumps(node.bare(), default=str)) for node in rules):
        say = "does nothing for objects in a bucket, which these rules name: give the bucket a lifecycle rule"
        source.warn("audio", f"`after_upload` {say}")


def _has_cloud() -> bool:
    """Whether the library of audio/objects.py is there. It is not imported: it takes memory."""
    try:
        return importlib.util.find_spec("obstore") is not None
    except ValueError:
        return False


def _publish(block: ConfigBlock, node: Node, path: str) -> dict[str, Any]:
    reader = block.reader
    if isinstance(node.value, str) and node.value in _WORDS:
        return {"publish": node.value}
    if isinstance(node.value, dict) and node.value:
        rule = reader.members(node, path, ("url",)).get("url")
        return {} if rule is None else {"publish": "url", "url": rule}
    reader.problem(node, path, f"{_TAKES}, not {reader.shown(node)}")
    return {}


def _directory(block: ConfigBlock, text: str) -> str:
    directory = block.reader.absolute(text)
    if directory == "/":
        block.problem("files", "names the whole file system; name the directories that hold recordings")
    return directory


def _read_after_upload(block: ConfigBlock) -> None:
    if (node := block.given("after_upload")) is None:
        return
    if node.value in ("keep", "delete"):
        block.values["after_upload"] = AfterUpload(str(node.value))
        return
    if not isinstance(node.value, dict) or not node.value:
        block.problem("after_upload", f"takes keep, delete or {{move_to: uploaded/}}, not {block.reader.shown(node)}")
        return
    at = join(block.path, "after_upload")
    target = block.reader.members(node, at, ("move_to",)).get("move_to")
    text = block.reader.text(target, join(at, "move_to"), "a directory, like uploaded/") if target is not None else None
    if text is not None:
        block.values |= {"after_upload": AfterUpload.MOVE_TO, "move_to": text}
