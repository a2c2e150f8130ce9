"""EATA: Niu et al. 2022, arXiv:2204.02610.

Official code: github.com/mr-eggplant/EATA (MIT).
"""

import math
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.adapt import affine, base, descent, sites
from normjax.nn.variables import Structure, split
from normjax.similarity import matrices
from normjax.types import Array, PyTree


class Own(NamedTuple):
  """What EATA keeps.

  Attributes:
    optimizer: its state.
    probabilities: (classes,), the moving average of those of the examples
      that it learned from; 0 before the first.
    num_reliable: examples that the first filter let through.
    num_used: examples that both did.
    fisher: by path: how much each parameter matters for the source data.
    anchor: by path: where the parameters began.
  """

  optimizer: PyTree
  probabilities: Array
  num_reliable: Array
  num_used: Array
  fisher: dict[str, Array]
  anchor: dict[str, Array]


def eata(
  model: nnx.Module,
  learning_rate: float = 2.5e-4,
  optimizer: Literal["adam", "sgd"] = "sgd",
  momentum: float = 0.9,
  entropy_margin: float = 0.4,
  similarity_margin: float = 0.05,
  fisher_data: Iterable[Any] | None = None,
  fisher_weight: float = 2000.0,
  freeze: str = "",
) -> base.Adapter:
  """Tent on examples that are sure and new, held near what the source needs.

      reliable: H_b < E0 = entropy_margin * log(classes)
      new:      |cos(m, p_b)| < similarity_margin, where there is an m
      loss = mean over those of H_b / exp(H_b - E0)
             + fisher_weight * sum F (theta - theta_0)^2
      m <- 0.9 m + 0.1 mean p_b

  The factor of H_b is a constant of the gradient. A batch without such an
  example moves nothing. The logits are those before the step.

  Args:
    model: as `tent`.
    learning_rate: 2.5e-4 is the official code's, of ImageNet, as all defaults.
    optimizer: "adam" or "sgd".
    momentum: as in `tent`.
    entropy_margin: E0 as a share of log(classes).
    similarity_margin: of the absolute cosine.
    fisher_data: batches of inputs of the source domain, without labels; F is
      the mean over batches of the squared gradient of the cross entropy to the
      model's own answers, so that the batch size is part of it. The code
      takes 2000 images in batches of 64. None: no such term, which the paper
      calls ETA.
    fisher_weight: of the second term.
    freeze: see `affine.choose`.

  Raises:
    UserError: an option out of range, nothing to adapt, or empty fisher_data.
  """
  descent.check("eata", learning_rate, optimizer, momentum)
  validate.number("eata", "entropy_margin", entropy_margin, above=0)
  validate.number("eata", "similarity_margin", similarity_margin, above=0)
  validate.number("eata", "fisher_weight", fisher_weight, least=0)
  pinned = sites.pin("eata", model, statistics="batch")
  paths = affine.choose("eata", pinned, freeze)
  classes = affine.num_classes("eata", pinned)
  fisher: dict[str, Array] = {}
  if fisher_data is not None:
    fisher = _fisher(*split(pinned), paths, fisher_data)

  def own(variables, _):
    values = affine.of(variables["params"], paths)
    return Own(
      descent.first(optimizer, values),
      jnp.zeros(classes),
      jnp.zeros((), jnp.int32),
      jnp.zeros((), jnp.int32),
      fisher,
      values if fisher else {},
    )

  def step(structure, state, inputs):
    own, scalars = state.own, state.scalars

    def loss(logits, values):
      affine.check_classes("eata", logits, classes)
      h_n = descent.entropy(logits)
      margin = scalars["entropy_margin"] * math.log(logits.shape[-1])
      p_nc = jax.nn.softmax(logits.reshape(-1, logits.shape[-1]))
      reliable = h_n < margin
      begun = own.num_used > 0
      near = jnp.abs(_cosine(own.probabilities, p_nc))
      used = reliable & ~(begun & (near >= scalars["similarity_margin"]))
      factor = jax.lax.stop_gradient(jnp.exp(margin - h_n))
      value = descent.mean_of(h_n * factor, used)
      for path, importance in own.fisher.items():
        far = jnp.square(values[path] - own.anchor[path])
        value += scalars["fisher_weight"] * jnp.sum(importance * far)
      return value, (p_nc, reliable, used)

    gradients, logits, (p_nc, reliable, used) = descent.gradient(
      structure, state.variables, inputs, paths, loss
    )
    rule = descent.make(
      optimizer, scalars["learning_rate"], scalars["momentum"]
    )
    count = jnp.sum(used, dtype=jnp.int32)
    variables, moments = descent.where(
      count > 0,
      descent.moved(state.variables, gradients, rule, own.optimizer),
      (state.variables, own.optimizer),
    )
    mean = jnp.sum(jnp.where(used[:, None], p_nc, 0), 0) / jnp.maximum(count, 1)
    old = own.probabilities
    average = jnp.where(own.num_used > 0, 0.9 * old + (1 - 0.9) * mean, mean)
    new = own._replace(
      optimizer=moments,
      probabilities=jnp.where(count > 0, average, old).astype(old.dtype),
      num_reliable=own.num_reliable + jnp.sum(reliable, dtype=jnp.int32),
      num_used=own.num_used + count,
    )
    return logits, state._replace(variables=variables, own=new)

  return base.adapter(
    "eata",
    pinned,
    step,
    scalars={
      "learning_rate": learning_rate,
      "momentum": momentum,
      "entropy_margin": entropy_margin,
      "similarity_margin": similarity_margin,
      "fisher_weight": fisher_weight,
    },
    own=own,
  )


def _cosine(m_c: Array, p_nc: Array) -> Array:
  """Cosines, as PyTorch has them: lengths of at least 1e-8."""
  lengths = jnp.linalg.norm(m_c) * jnp.linalg.norm(p_nc, axis=-1)
  return matrices.product(p_nc, m_c) / jnp.maximum(lengths, 1e-8)


def _fisher(
  structure: Structure,
  variables: base.Variables,
  paths: tuple[str, ...],
  batches: Iterable[Any],
) -> dict[str, Array]:
  """The mean over batches of the squared gradient, by path."""

  @jax.jit
  def squared(variables: base.Variables, inputs: Array) -> dict[str, Array]:
    def loss(logits, _):
      flat = logits.reshape(-1, logits.shape[-1])
      log_p = jax.nn.log_softmax(flat)
      return -jnp.mean(jnp.max(log_p, axis=-1)), None

    found, _, _ = descent.gradient(structure, variables, inputs, paths, loss)
    return jax.tree.map(jnp.square, found)

  total, count = None, 0
  for inputs in batches:
    found = squared(variables, jnp.asarray(inputs))
    total = found if total is None else jax.tree.map(jnp.add, total, found)
    count += 1
  if total is None:
    raise errors.UserError("eata: fisher_data is empty; needed: one batch.")
  return jax.tree.map(lambda a: a / count, total)
