"""`tunerd` and `python -m tunerd`. A health check is answered before anything large is imported."""

import os
import sys


def main() -> None:
    if sys.argv[1:2] == ["health"]:
        from tunerd.admin.healthcheck import quick_main

        if (code := quick_main(sys.argv[2:], os.environ)) is not None:
            sys.exit(code)
    from tunerd.cli import main as commands

    commands()


if __name__ == "__main__":
    main()
