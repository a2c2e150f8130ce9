"""Core: alpha-BN with a class-correlation loss, arXiv:2110.04065. Second-hand.

There is no official code, and the paper's formula of the loss could not be
read; the abstract names "pairwise class correlation". What is here is the
loss that fits these words, and its identity is tested; do not quote it as the
paper's.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.adapt import affine, base, descent, sites
from normjax.similarity import matrices
from normjax.types import Array


def core(
  model: nnx.Module,
  test_weight: float = 0.1,
  learning_rate: float = 1e-3,
  optimizer: Literal["adam", "sgd"] = "adam",
  momentum: float = 0.9,
  normalize: bool = False,
  freeze: str = "",
) -> base.Adapter:
  """Descent on the correlation of classes, by the statistics of `alpha_bn`.

      M = P^T P,  P (b, classes) the softmax of the logits
      loss = 1/b sum_{i != j} M_ij

  which is mean_b (1 - |p_b|^2), the Tsallis entropy of order 2. The logits are
  those before the step.

  Args:
    model: as `alpha_bn`.
    test_weight: as `alpha_bn`.
    learning_rate: of the step.
    optimizer: "adam" or "sgd".
    momentum: as in `tent`.
    normalize: whether each column of M is first divided by its sum, as in
      minimum class confusion (arXiv:1912.03699); the loss is then
      1/classes sum_{i != j}, and no longer a mean over examples.
    freeze: see `affine.choose`.

  Raises:
    UserError: what `alpha_bn` and `tent` raise.
  """
  descent.check("core", learning_rate, optimizer, momentum)
  validate.number("core", "test_weight", test_weight, least=0, most=1)
  validate.flags("core", normalize=normalize)
  pinned = sites.pin(
    "core",
    model,
    needs="blends",
    statistics="blended",
    batch_weight=test_weight,
  )
  paths = affine.choose("core", pinned, freeze)

  def step(structure, state, inputs):
    gradients, logits, _ = descent.gradient(
      structure,
      state.variables,
      inputs,
      paths,
      lambda logits, _: (correlation(logits, normalize=normalize), None),
    )
    rule = descent.make(optimizer, **state.scalars)
    variables, own = descent.moved(state.variables, gradients, rule, state.own)
    return logits, state._replace(variables=variables, own=own)

  return base.adapter(
    "core",
    pinned,
    step,
    scalars={"learning_rate": learning_rate, "momentum": momentum},
    own=lambda variables, _: descent.first(
      optimizer, affine.of(variables["params"], paths)
    ),
  )


def correlation(logits: Array, *, normalize: bool = False) -> Array:
  """The loss of `core`; see there."""
  p_nc = jax.nn.softmax(logits.reshape(-1, logits.shape[-1]))
  m_cc = matrices.product(p_nc.T, p_nc)
  count = p_nc.shape[0]
  if normalize:
    m_cc, count = m_cc / jnp.sum(m_cc, axis=0), p_nc.shape[-1]
  return (jnp.sum(m_cc) - jnp.trace(m_cc)) / count
