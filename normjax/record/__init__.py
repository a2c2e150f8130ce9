"""What a run leaves on disk; written by training, read by reports.

A run is a directory named by the hash of its resolved config. `directory` is
the one place that knows its files, and a sweep's; `files` writes JSON and rows.
"""
