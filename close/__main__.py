"""`python -m close` is the `close` command."""

from close.cli import main

main()
