"""Every norm, at every placement, in every transformer.

Nothing is compiled as a whole: the families' operations have few shapes, so
that each is compiled once and a step costs a fraction of a second.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.nn import placement as placements
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract


def _refusal(norm: norms.Norm, placement: placements.Placement) -> str | None:
  """Why the two do not go together, as the error says it."""
  layers = [placement.layer(index, 2) for index in (1, 2)]
  if norm.hand_on_fn is not None and not all(
    layer.is_plain_pre() for layer in layers
  ):
    return "takes its statistic from the norm before it"
  per_token = norm.traits.statistics == "per_example"
  if placement.fixed_length and not (norm.traits.scale_invariant and per_token):
    return "does not fix for each token"
  return None


@pytest.mark.parametrize("placement", placements.TABLE.names())
@pytest.mark.parametrize(
  "name",
  [
    "llama",
    pytest.param("gpt2", marks=pytest.mark.slow),
    pytest.param("vit", marks=pytest.mark.slow),
  ],
)
def test_every_norm_steps_and_stays_finite(name, placement):
  rule = placements.resolve(placement)
  ran = 0
  for norm in norms.names():
    made = norms.make(norm)
    if made.traits.spatial_only:
      continue
    refusal = _refusal(made, rule)
    if refusal:
      with pytest.raises(errors.UserError, match=refusal):
        model_contract.make(name, norm=norm, placement=placement)
      continue
    model, inputs = model_contract.make(name, norm=norm, placement=placement)
    structure, variables = nn_variables.split(model)
    inputs = inputs[:2]
    params, stats = variables["params"], variables["stats"]

    def loss(params, grad_stats, structure, variables, inputs):
      given = {**variables, "params": params, "grad_stats": grad_stats}
      model = nn_variables.merge(structure, given)
      logits = model(inputs)
      stats = nn_variables.split(model)[1]["stats"]
      return jnp.mean(jnp.square(logits - 1)), stats

    (value, stats), (gradient, grad_stats) = jax.value_and_grad(
      loss, argnums=(0, 1), has_aux=True
    )(params, variables["grad_stats"], structure, variables, inputs)
    stepped = jax.tree.map(lambda p, g: p - 1e-2 * g, params, gradient)
    after = {"params": stepped, "stats": stats, "grad_stats": grad_stats}
    logits = nn_variables.merge(structure, after)(inputs, train=False)
    for leaf in jax.tree.leaves((value, after, logits)):
      assert np.isfinite(leaf).all(), norm
    ran += 1
  # The sphere takes few: those that fix the length of every token.
  assert ran >= 5
