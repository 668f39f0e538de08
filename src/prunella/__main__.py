"""`python -m prunella` is the `prunella` command."""

from prunella.cli import main

main()
