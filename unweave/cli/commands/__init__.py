"""The commands, one a file: each checks what can be checked beforehand, asks one method, and prints what it found.

A command is a function `run`, whose annotations are its options and whose docstring is its help. `unweave.cli.app`
lists them in the order of the help.
"""
