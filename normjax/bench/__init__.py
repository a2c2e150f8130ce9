"""Benchmarks of this project's own speed, run by `normjax bench`."""

from normjax.registry import Registry

TABLE = {"train": "normjax.bench.train:run"}
_REGISTRY = Registry("benchmark", TABLE)
names = _REGISTRY.names
get = _REGISTRY.get
