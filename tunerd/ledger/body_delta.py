"""A frozen body as a delta of its payload, so that 4 KB are not stored twice for the 60 bytes in which they differ. Pure."""

import struct
from typing import Final

_HEAD: Final = struct.Struct("<II")


def delta_of(payload: bytes, body: bytes) -> bytes | None:
    """What to store to make `body` from `payload` again; None if that saves less than half."""
    most = len(payload) - 1
    if (
        most > 0 and body[-1:] == payload[-1:] and body.startswith(payload[:-1])
    ):  # as a rule the body has one more field at its end
        front, back = most, 1
    else:
        front, back = _shared(payload, body)
    middle = body[front : len(body) - back]
    return None if len(middle) > len(body) // 2 else _HEAD.pack(front, back) + middle


def _shared(payload: bytes, body: bytes) -> tuple[int, int]:
    front = _common(payload, body, min(len(payload), len(body)), from_end=False)
    back = _common(payload, body, min(len(payload), len(body)) - front, from_end=True)
    return front, back


def apply_delta(payload: bytes, delta: bytes) -> bytes:
    front, back = _HEAD.unpack_from(delta)
    return payload[:front] + delta[_HEAD.size :] + payload[len(payload) - back :]


def _common(a: bytes, b: bytes, most: int, *, from_end: bool) -> int:
    """Length of the common prefix or suffix, at most `most`. By halving, because comparing slices is one memcmp."""

    def is_common(length: int) -> bool:
        return a[len(a) - length :] == b[len(b) - length :] if from_end else a[:length] == b[:length]

    low = 0
    while low < most:
        middle = (low + most + 1) // 2
        if is_common(middle):
            low = middle
        else:
            most = middle - 1
    return low
