"""A frozen body as a delta of its payload, so that 4 KB are not stored twice for the bytes in which they differ. Pure."""

import struct
import zlib
from typing import Final

_HEAD: Final = struct.Struct("<II")
_DEFLATED: Final = 2**32 - 1
"""In place of a length: what follows is deflated, with the payload as its dictionary."""
_LONGEST: Final = 64 * 1024
"""Of payload and body, where the body is deflated: the delta is made inside a transaction that others wait for."""


def delta_of(payload: bytes, body: bytes) -> bytes | None:
    """What to store to make `body` from `payload` again; None if that saves less than half."""
    front = len(payload) - 1
    if front > 0 and body[-1:] == payload[-1:] and body.startswith(payload[:-1]):  # create-call: one more field at the end
        delta = _HEAD.pack(front, 1) + body[front:-1]
    elif max(len(payload), len(body)) <= _LONGEST:
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, payload)
        delta = _HEAD.pack(_DEFLATED, 0) + packer.compress(body) + packer.flush()
    else:
        return None
    return delta if len(delta) <= len(body) // 2 else None


def apply_delta(payload: bytes, delta: bytes) -> bytes | None:
    """The body; None for a damaged delta."""
    front, back = _HEAD.unpack_from(delta)
    if front != _DEFLATED:
        return payload[:front] + delta[_HEAD.size :] + payload[len(payload) - back :]
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS, zdict=payload)
    try:
        body = unpacker.decompress(delta[_HEAD.size :])
    except zlib.error:
        return None
    return body if unpacker.eof else None
