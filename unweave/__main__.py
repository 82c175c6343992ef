"""`python -m unweave`, the same as the command `unweave`."""

from unweave.cli import main

main()
