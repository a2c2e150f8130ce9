"""One file per command: USAGE, define_flags(values), run(positional, …).

`RESUMES = True` says that the same command goes on where one was cut short.
"""
