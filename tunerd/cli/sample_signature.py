"""For `tunerd check`: whether URLs of recordings in buckets can be signed here, tried on a made-up object of each bucket.

Import it only for a source that signs: it needs obstore.
"""

import asyncio
import json
import os
import re
from collections.abc import Sequence
from typing import Final

from tunerd.audio.object_faults import FaultKind, ObjectFault
from tunerd.audio.objects import ObjectStores
from tunerd.clock import SystemClock
from tunerd.config import Config, Source
from tunerd.config.quantities import duration_text
from tunerd.mapping import presets

_BUCKET: Final = re.compile(r"(?:s3|gs|az)://[A-Za-z0-9][A-Za-z0-9._-]*(?=/)")
_MADE_UP: Final = "tunerd-check/2026-01-01/recording.wav"


def sample_signatures(config: Config, *, online: bool) -> Sequence[tuple[bool, str]]:
    """A line for each source and bucket, and whether it is good. `online`: the storage is asked, too."""
    return asyncio.run(_lines(config, [source for source in config.sources if source.audio.publish == "presign"], online))


async def _lines(config: Config, sources: Sequence[Source], online: bool) -> Sequence[tuple[bool, str]]:
    stores, named = ObjectStores(SystemClock()), _buckets(config)
    lines: list[tuple[bool, str]] = []
    for source in sources:
        for bucket in named or [f"{_likely_scheme()}://bucket"]:
            location = f"{bucket}/{_MADE_UP}"
            try:
                made = await stores.sample(location, source.audio.expires_s)
                valid = duration_text(60 * round((made.expires_at - SystemClock().now()) / 60))
                say = f"a URL of {bucket} has about {len(made.url)} characters and is valid for {valid}"
                if online and named:
                    say += await _asked(stores, location)
                lines.append((True, f"source {source.name}: {say}"))
            except ObjectFault as fault:
                lines.append((False, f"source {source.name}: `audio: presign`: {fault}"))
    return lines


async def _asked(stores: ObjectStores, location: str) -> str:
    """What the storage says of an object that cannot be there. Raises ObjectFault for every other fault."""
    try:
        await stores.look(location, 1)
    except ObjectFault as fault:
        if fault.kind is FaultKind.MISSING:
            return "; the storage accepts the credentials"
        if fault.kind is FaultKind.DENIED and location.startswith("s3:"):
            return "; the storage denies access, or may not say that the made-up object is missing (s3:ListBucket)"
        raise
    return "; the storage accepts the credentials"


def _buckets(config: Config) -> Sequence[str]:
    """The buckets that rules name, in the order of the file."""
    found: dict[str, None] = {}
    for source in config.sources:
        rules = presets.effective(source)
        nodes = [rules.call, rules.manifest, *(getattr(one, "url", None) for one in rules.recording)]
        for node in nodes:
            if node is not None:
                found |= dict.fromkeys(_BUCKET.findall(json.dumps(node.bare(), default=str)))
    return list(found)


def _likely_scheme() -> str:
    """No rule names a bucket: the storage for which the environment has something."""
    names = {"gs": "GOOGLE_", "az": "AZURE_"}
    return next((scheme for scheme, prefix in names.items() if any(name.startswith(prefix) for name in os.environ)), "s3")
