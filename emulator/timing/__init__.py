"""Executed blocks -> cycles: what each core and its memories make of them. docs/emulator.md."""
