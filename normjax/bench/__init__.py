"""Benchmarks of this project's own speed, run by `normjax bench`."""

from normjax.registry import Registry

# Each is called with a console and the command's flags by name.
TABLE = {
  "train": "normjax.bench.train:run",
  "data": "normjax.bench.data:run",
  "optim": "normjax.bench.optim:run",
  "norms": "normjax.bench.norms:run",
  "models": "normjax.bench.models:run",
  "conv_norm": "normjax.bench.conv_norm:run",
  "adapt": "normjax.bench.adapt:run",
  "lean": "normjax.bench.lean:run",
  "equivalence": "normjax.bench.equivalence:run",
  "compiled": "normjax.bench.compiled:run",
  "sweep": "normjax.bench.sweep:run",
}
# Run by its name alone, with the flags that were given; returns an exit code.
ALONE = {"gpu": "normjax.bench.gpu:run"}
# Run by its name and a sweep's file, whose path it is given as well.
OF_SWEEP = {"memory": "normjax.bench.memory:run"}
# What runs if none is named: those that time something, in minutes.
TIMED = tuple(name for name in TABLE if name not in ("compiled", "sweep"))
_REGISTRY = Registry("benchmark", TABLE | ALONE | OF_SWEEP)
names = _REGISTRY.names
get = _REGISTRY.get
