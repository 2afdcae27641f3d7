"""`python -m harness` is the command `moemark`."""

from harness.cli import main

main()
