"""``make faults``: the claims of the README's reliability section, each with its figure.

Each module is a command that prints what it found and exits with 1 where its claim does not hold.
"""
