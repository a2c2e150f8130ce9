"""What a run leaves on disk; written by training, read by reports.

A run is a directory named by the hash of its resolved config:

    run.json       resolved config and provenance
    metrics.jsonl  one row a line, appended
    status.json    where it is now, replaced atomically
    ckpt/          Orbax checkpoints
    result.json    its outcome; its presence means the run is over
"""
