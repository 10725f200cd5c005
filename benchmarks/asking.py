"""Asks a daemon's /readyz again and again from a process of its own, until its input closes; then prints, as JSON, how
long the longest answer took.

/readyz asks nobody: the event loop alone answers it. An answer takes two turns of the loop, so it is never quicker than
what held the loop up, and is late by the pause between two questions at most.
"""

import json
import select
import socket
import sys
import time
from typing import Final

EVERY_S: Final = 0.005
_REQUEST: Final = b"GET /readyz HTTP/1.1\r\nHost: tunerd\r\n\r\n"


def main(host: str, port: int) -> None:
    longest = 0.0
    asked = late = 0
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("asking", flush=True)
        while not select.select([sys.stdin], [], [], EVERY_S)[0]:
            began = time.perf_counter()
            connection.sendall(_REQUEST)
            answer = b""
            while not answer.endswith(b"ok\n"):
                part = connection.recv(4096)
                if not part:
                    raise ConnectionError("the daemon closed the connection")
                answer += part
            took = time.perf_counter() - began
            asked += 1
            late += took > 0.05
            longest = max(longest, took)
    print(json.dumps({"longest_ms": longest * 1000, "asked": asked, "late": late}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
