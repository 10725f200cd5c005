"""`tunerd` and `python -m tunerd`. A health check is answered before anything large is imported."""

import gc
import os
import sys

WITHOUT_COLLECTING = 200_000
"""New objects after which Python looks for unreachable cycles. What is imported stays, and makes fewer objects than this. With
Python's default of 700 it is examined again and again, which takes a tenth of the time that the daemon needs to be ready.
(Without `typing`, which a health check does not need.)"""


def main() -> None:
    if sys.argv[1:2] == ["health"]:
        from tunerd.admin.healthcheck import quick_main

        if (code := quick_main(sys.argv[2:], os.environ)) is not None:
            sys.exit(code)
    gc.set_threshold(WITHOUT_COLLECTING, 5, 5)
    from tunerd.cli import main as commands
    from tunerd.ops.core_files import leave_memory_out_of_cores

    leave_memory_out_of_cores()
    commands()


if __name__ == "__main__":
    main()
