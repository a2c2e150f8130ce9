"""A head of equiangular basis vectors: Shen et al. 2023, arXiv:2303.11637.

The official repository, aassxun/Equiangular-Basis-Vectors, has no licence:
equations only.
"""

import jax
import jax.numpy as jnp

from normjax import validate
from normjax.similarity import equiangular as basis
from normjax.similarity import matrices
from normjax.similarity.heads import base
from normjax.types import Array


def equiangular(
  temperature: float = 0.07,
  embedding_dim: int | None = None,
  tau: float | None = None,
  seed: int = 0,
) -> base.Head:
  """Cosines with fixed class vectors, over a temperature.

      z_c = cos(x A + b, v_c) / T

  The v_c are those of `similarity.equiangular_basis`, made before training and
  the same for each seed of a run: a statistic, `vectors`, that nothing moves.
  The loss is the softmax cross-entropy, in the paper with label smoothing 0.1
  for the longer schedules.

  Args:
    temperature: T, > 0; 0.07, as in the official logs.
    embedding_dim: d, of the vectors; None: as many as classes, which are then
      orthogonal. Fewer are the paper's point, and need tau.
    tau: the largest |cosine| of two vectors; None: 0.002 for d >= classes. The
      paper's author has 0.05 for 1000 classes in 512 dimensions.
    seed: of the vectors, not of the run; 0 unless said.

  Raises:
    UserError: an option out of range; with `init`, a tau below the Welch bound
      or one that is not reached.
  """
  name = "equiangular"
  base.check_temperature(name, temperature)
  base.check_dim(name, embedding_dim)
  validate.count(name, "seed", seed, least=0)
  if tau is not None:
    validate.number(name, "tau", tau, least=0, below=1)
  options = {
    "temperature": temperature,
    "embedding_dim": embedding_dim,
    "tau": tau,
    "seed": seed,
  }
  return base.Head(name, options, _init, _apply)


def _init(
  key: Array,
  features: int,
  classes: int,
  *,
  embedding_dim: int | None,
  tau: float | None,
  seed: int,
  **_,
):
  dim = embedding_dim or classes
  tau = basis.checked_tau("equiangular", classes, dim, tau)
  keys = jax.random.split(key)
  return {
    # torch's start of linear layers, bias included.
    "params": {
      "embedding_kernel": base.uniform(keys[0], (features, dim), features),
      "embedding_bias": base.uniform(keys[1], (dim,), features),
    },
    "stats": {
      "vectors": jnp.asarray(
        basis.equiangular_basis(classes, dim, tau, seed=seed)
      )
    },
  }


def _apply(
  variables: base.Variables, x: Array, *, temperature: float, **_
) -> base.Compared:
  params = variables["params"]
  x = x @ params["embedding_kernel"] + params["embedding_bias"]
  embedding = matrices.unit(x)
  cosines = embedding @ variables["stats"]["vectors"].T
  return base.Compared(cosines / temperature, embedding)
