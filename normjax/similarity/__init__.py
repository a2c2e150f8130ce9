"""Similarity matrices, what hubs do to them, and heads that compare vectors.

    from normjax import similarity

    s_qg = similarity.cosine(queries, gallery)
    bank_ng = similarity.cosine(other_queries, gallery)
    better_qg = similarity.inverted_softmax(s_qg, bank_ng)
    similarity.hubness(better_qg, k=10).skewness
    similarity.recall_at_k(better_qg, query_labels, gallery_labels, k=1)

Functions of matrices with queries as rows and the gallery as columns: pure,
float32 or float64 as they are given, fit for `jax.jit`. What a file makes
public is in its `__all__`; names are imported when first used. `heads` has the
last layers of models, by name.
"""

import functools
import importlib
from collections.abc import Mapping
from typing import Any

from normjax import registry

_HEADS = f"{__name__}.heads"


@functools.cache
def exports() -> Mapping[str, str]:
  """Public name to "module:name": `__all__` of each file, not of `heads`."""
  found = registry.exports(__name__, __path__)
  return {k: v for k, v in found.items() if not v.startswith(f"{_HEADS}:")}


def __getattr__(name: str) -> Any:
  if name == "__all__":
    return __dir__()
  if name == "heads":
    return importlib.import_module(_HEADS)
  if name in exports():
    return registry.load(exports()[name])
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({"heads", *exports()})
