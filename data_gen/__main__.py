"""`python -m data_gen` is `data-gen`."""

from data_gen.cli import main

main()
