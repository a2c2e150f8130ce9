"""Tent: Wang et al. 2021, arXiv:2006.10726.

Official code: github.com/DequanWang/tent (MIT).
"""

from typing import Literal

import jax.numpy as jnp
from flax import nnx

from normjax import validate
from normjax.adapt import affine, base, descent, sites


def tent(
  model: nnx.Module,
  learning_rate: float = 1e-3,
  optimizer: Literal["adam", "sgd"] = "adam",
  momentum: float = 0.9,
  steps: int = 1,
  freeze: str = "",
) -> base.Adapter:
  """Descent on the entropy of the predictions, in scale and bias of the norms.

      loss = mean_b H(softmax(logits_b)),  in nats

  Norms with running statistics use those of the batch, and gradients pass
  them. The logits are those before the (last) step. The rest of the model is
  as in evaluation: the official code has it in training mode, with dropout on.

  Args:
    model: with norms that have a scale or a bias, of whatever kind; the paper
      adapts batch norm.
    learning_rate: 1e-3 is the official code's, on CIFAR; that of EATA runs Tent
      on ImageNet with "sgd" and 2.5e-4.
    optimizer: "adam" or "sgd".
    momentum: of "sgd"; of "adam" it is b1.
    steps: per batch.
    freeze: see `affine.choose`.

  Raises:
    UserError: an option out of range, or nothing to adapt.
  """
  descent.check("tent", learning_rate, optimizer, momentum)
  validate.count("tent", "steps", steps, 1)
  pinned = sites.pin("tent", model, statistics="batch")
  paths = affine.choose("tent", pinned, freeze)

  def step(structure, state, inputs):
    logits = jnp.zeros(())
    for _ in range(steps):
      gradients, logits, _ = descent.gradient(
        structure,
        state.variables,
        inputs,
        paths,
        lambda logits, _: (jnp.mean(descent.entropy(logits)), None),
      )
      rule = descent.make(optimizer, **state.scalars)
      variables, own = descent.moved(
        state.variables, gradients, rule, state.own
      )
      state = state._replace(variables=variables, own=own)
    return logits, state

  return base.adapter(
    "tent",
    pinned,
    step,
    scalars={"learning_rate": learning_rate, "momentum": momentum},
    own=lambda variables, _: descent.first(
      optimizer, affine.of(variables["params"], paths)
    ),
  )
