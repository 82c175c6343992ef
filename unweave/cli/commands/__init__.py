"""The commands: each checks what can be checked beforehand, asks for one thing, and prints what it found.

A command is a function whose annotations are its options and whose docstring is its help. `unweave.cli.app` lists them
in the order of the help.
"""
