"""LAME: Boudiaf et al. 2022, arXiv:2201.05718.

Official code: github.com/fiveai/LAME (CC BY-NC-SA 4.0; equations only).
"""

from collections.abc import Callable, Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from normjax import validate
from normjax.adapt import base, features, sites
from normjax.similarity import matrices
from normjax.types import Array

_MOST_ROUNDS = 100
_TOLERANCE = 1e-8


def lame(
  model: nnx.Module,
  affinity: Literal["rbf", "knn", "linear"] = "rbf",
  neighbours: int = 5,
) -> base.Adapter:
  """Answers that agree where features do; no parameter and no statistic moves.

      Z <- softmax(log P + W Z),  from Z = P, until the energy stands

      E = sum_ik Z_ik log(Z_ik / P_ik) - sum_ij W_ij <Z_i, Z_j>

  P is the model's softmax and W the affinity of the features (what the last
  layer reads), each of length 1:

  - "rbf": exp(-d_ij^2 / (2 s^2)), s the mean distance to the neighbour number
    `neighbours`, each example its own first one;
  - "knn": 1 where j is among the `neighbours` nearest others of i;
  - "linear": the inner product.

  It ends where E moves by less than 1e-8 of itself, or after 100 rounds.

  Args:
    model: any with a last layer that `nn.roles` knows.
    affinity: W.
    neighbours: fewer where the batch is smaller.

  Returns:
    An adapter whose logits are log Z.

  Raises:
    UserError: an option out of range, or a model whose last layer is unknown.
  """
  measure = validate.choose("lame", "affinity", affinity, AFFINITIES)
  validate.count("lame", "neighbours", neighbours, 1)
  pinned = features.watched("lame", sites.pin("lame", model))

  def step(structure, state, inputs):
    logits, found_bf = features.predict(structure, state.variables, inputs)
    unit_bf = found_bf / jnp.maximum(
      jnp.linalg.norm(found_bf, axis=-1, keepdims=True), 1e-12
    )
    return refine(logits, measure(unit_bf, neighbours)), state

  return base.adapter("lame", pinned, step)


def refine(logits_bc: Array, w_bb: Array) -> Array:
  """Log Z of the batch; see `lame`."""
  # The official code's constant, below which no probability counts.
  log_p = jnp.log(jax.nn.softmax(logits_bc) + 1e-10)

  def energy(log_z, pull):
    z = jnp.exp(log_z)
    return jnp.sum(z * (log_z - log_p - pull))

  def goes_on(carry):
    rounds, _, old, new = carry
    stands = jnp.abs(new - old) <= _TOLERANCE * jnp.abs(old)
    return (rounds < _MOST_ROUNDS) & ~((rounds > 2) & stands)

  def improve(carry):
    rounds, log_z, _, old = carry
    pull = matrices.product(w_bb, jnp.exp(log_z))
    log_z = jax.nn.log_softmax(log_p + pull)
    return rounds + 1, log_z, old, energy(log_z, pull)

  far = jnp.asarray(jnp.inf, log_p.dtype)
  first = (0, jax.nn.log_softmax(log_p), far, far)
  return lax.while_loop(goes_on, improve, first)[1]


def _distances(x_bf: Array) -> Array:
  difference = x_bf[:, None] - matrices.uncut(x_bf, 0)[None]
  return jnp.sqrt(jnp.sum(jnp.square(difference), axis=-1))


def _rbf(x_bf: Array, neighbours: int) -> Array:
  d_bb = _distances(x_bf)
  count = min(neighbours, len(x_bf))
  scale = jnp.mean(jnp.sort(d_bb, axis=-1)[:, count - 1])
  # Of a batch of one, or of copies, all are as near as can be.
  scale = jnp.where(scale > 0, scale, 1)
  return jnp.exp(-jnp.square(d_bb) / (2 * jnp.square(scale)))


def _knn(x_bf: Array, neighbours: int) -> Array:
  size = len(x_bf)
  count = min(neighbours, size - 1)
  d_bb = jnp.where(jnp.eye(size, dtype=bool), -1, _distances(x_bf))
  # Itself first, then the others.
  nearest = jnp.argsort(d_bb, axis=-1)[:, 1 : count + 1]
  return jnp.sum(jax.nn.one_hot(nearest, size, dtype=x_bf.dtype), axis=1)


def _linear(x_bf: Array, neighbours: int) -> Array:
  del neighbours
  return matrices.product(x_bf, x_bf.T)


AFFINITIES: Mapping[str, Callable[[Array, int], Array]] = {
  "rbf": _rbf,
  "knn": _knn,
  "linear": _linear,
}
