"""A head of prototypes: Yang et al. 2018, arXiv:1805.03438."""

import jax

from normjax.similarity import prototypes
from normjax.similarity.heads import base
from normjax.types import Array


def prototype(
  temperature: float = 1.0, embedding_dim: int | None = None
) -> base.Head:
  """Minus squared Euclidean distances to class prototypes, over a temperature.

      z_c = -||e - w_c||^2 / T,  e = x A

  The columns of `kernel` are the prototypes. Trained with the softmax
  cross-entropy they are those of convolutional prototype learning (Yang et al.
  2018, arXiv:1805.03438, whose abstract was read; gamma is 1 / T). Set to class
  means, by `imprint`, they are a nearest-mean classifier, and of few examples
  prototypical networks (Snell et al. 2017, arXiv:1703.05175).

  Args:
    temperature: T, > 0; 1 unless said.
    embedding_dim: of e; None: the features are compared as they are, without
      A.

  Raises:
    UserError: an option out of range.
  """
  base.check_temperature("prototype", temperature)
  base.check_dim("prototype", embedding_dim)
  options = {"temperature": temperature, "embedding_dim": embedding_dim}
  return base.Head("prototype", options, _init, _apply, prototypes.class_means)


def _init(
  key: Array, features: int, classes: int, *, embedding_dim: int | None, **_
):
  keys = jax.random.split(key)
  dim, params = embedding_dim or features, {}
  if embedding_dim is not None:
    shape = (features, dim)
    params["embedding_kernel"] = base.uniform(keys[0], shape, features)
  params["kernel"] = base.uniform(keys[1], (dim, classes), dim)
  return {"params": params}


def _apply(
  variables: base.Variables, x: Array, *, temperature: float, **_
) -> base.Compared:
  params = variables["params"]
  if "embedding_kernel" in params:
    x = x @ params["embedding_kernel"]
  distances = prototypes.negative_squared_distance(x, params["kernel"].T)
  return base.Compared(distances / temperature, x)
