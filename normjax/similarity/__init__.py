"""Similarity matrices, what hubs do to them, and heads that compare vectors.

    from normjax import similarity

    s_qg = similarity.cosine(queries, gallery)
    better_qg = similarity.inverted_softmax(s_qg, similarity.cosine(bank, gallery))
    similarity.hubness(better_qg, k=10).skewness
    similarity.recall_at_k(better_qg, query_labels, gallery_labels, k=1)

Functions of matrices with queries as rows and the gallery as columns: pure,
float32 or float64 as they are given, fit for `jax.jit`. What a file makes
public is in its `__all__`; names are imported when first used. `heads` has the
last layers of models, by name.
"""

from typing import Any

from normjax import registry


def __getattr__(name: str) -> Any:
  found = registry.exports(__name__, __path__)
  if name == "__all__":
    return sorted(found)
  if name in found:
    return registry.load(found[name])
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted(registry.exports(__name__, __path__))
