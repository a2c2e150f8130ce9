"""Runs and sweeps as objects, for a notebook or a script; read-only.

    run = normjax.load_run("out/runs/1f2e3d4c5b6a")
    run.evaluate()["accuracy"], run.model(images), run.metrics("train")["loss"]
    sweep = normjax.load_sweep("out")
    pandas.DataFrame(sweep.rows())

Nothing here takes a lock or writes into what it opens: a run may be going on.
Importing this package imports nothing heavy.
"""
