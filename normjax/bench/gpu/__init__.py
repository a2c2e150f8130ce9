"""What one accelerator does with this project, in a few minutes.

    normjax bench gpu --budget_s=480 --out=results
    python -m normjax.bench.gpu --budget_s=480 --out=results

The second way needs jax, flax, optax, orbax, numpy, absl and ml_collections
with what these bring, and no network: data is random. Stages run one after the
other, the most valuable first, each in a process of its own with a limit. What
a stage has measured is in `<out>/<device>.json` before the next one starts: a
stage that hangs, and a budget that ends, cost no more than themselves.

`--stages=steps,optimizers` runs these alone, and keeps what the file has of
others. `--tiny` makes all sizes small, to try it on a CPU: its times mean
nothing.
"""

from normjax.bench.gpu.parent import STAGES, run

__all__ = ["STAGES", "run"]
