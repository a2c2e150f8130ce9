"""One file a command; each has FLAGS, USAGE and run(positional, values)."""
