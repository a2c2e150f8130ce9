"""Benchmarks of this project's own speed, run by `normjax bench`."""

from normjax.registry import Registry

# Each is called with a console and the command's flags by name.
TABLE = {
  "train": "normjax.bench.train:run",
  "optim": "normjax.bench.optim:run",
  "norms": "normjax.bench.norms:run",
  "models": "normjax.bench.models:run",
  "conv_norm": "normjax.bench.conv_norm:run",
}
_REGISTRY = Registry("benchmark", TABLE)
names = _REGISTRY.names
get = _REGISTRY.get
