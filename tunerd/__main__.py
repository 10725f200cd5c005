"""`python -m tunerd`."""

from tunerd.cli import main

main()
