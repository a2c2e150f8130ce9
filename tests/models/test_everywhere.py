"""Every norm, at every placement, in every transformer; and in a ResNet.

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
from tests.norms import cases


def _refusal(norm: norms.Norm, placement: placements.Placement) -> str | None:
  """Why the two do not go together, as the error says it."""
  layers = [placement.layer(index, 2) for index in (1, 2)]
  if norm.context_for_next_fn is not None and not all(
    layer.is_plain_pre() for layer in layers
  ):
    return "takes its statistic from the norm before it"
  per_token = norm.traits.statistics == "per_example"
  if placement.fixed_length and not (norm.traits.scale_invariant and per_token):
    return "does not fix for each token"
  if placement.fixed_length and norm.init((8,))["params"]:
    return "would change"
  return None


def _step(norm, model, inputs):
  """One step of gradient descent, then an evaluation; all of it finite."""
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


# Every norm in both versions takes most of a minute; ordinarily one that the
# models' contract does not have.
ORDINARY = {("group_norm", "v2")}


@pytest.mark.parametrize(
  ("norm", "version"),
  [
    pytest.param(
      norm,
      version,
      marks=() if (norm, version) in ORDINARY else pytest.mark.slow,
    )
    for version in ("v1", "v2")
    for norm in norms.names()
  ],
)
def test_every_norm_steps_in_a_residual_network(norm, version):
  """Those for transformers too; groups are of two channels."""
  made = norms.make(norm, **cases.SMALL.get(norm, {}))
  _step(norm, *model_contract.make("cifar_resnet", norm=made, version=version))


# Those that are not steps of one kind: without state, of a batch, backward.
FEW = ("layer_norm", "batch_norm", "power_norm")
# Where the norm is first, last and both; the others differ in gains and slots.
ORDINARY_PLACEMENTS = ("pre", "post", "peri", "hybrid")


def _pairs():
  """(model, placement, norms that take a step there)."""
  for placement in placements.TABLE.names():
    fixed = placements.resolve(placement).fixed_length
    those = cases.representatives() if placement == "pre" else FEW
    yield pytest.param(
      "llama",
      placement,
      norms.names() if fixed else those,
      marks=()
      if fixed or placement in ORDINARY_PLACEMENTS
      else pytest.mark.slow,
    )
    for name, those in (
      ("llama", norms.names()),
      ("gpt2", cases.representatives()),
      ("vit", cases.representatives()),
    ):
      # The sphere takes few: those that fix the length of every token.
      those = norms.names() if fixed else those
      yield pytest.param(name, placement, those, marks=pytest.mark.slow)


@pytest.mark.parametrize(
  ("name", "placement", "those"),
  list(_pairs()),
  ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_every_norm_steps_and_stays_finite(name, placement, those):
  """Or is refused, which all are asked for."""
  rule = placements.resolve(placement)
  ran = 0
  for norm in norms.names():
    made = norms.make(norm)
    if made.traits.mixes_positions:
      if name == "llama" and not rule.fixed_length:
        with pytest.raises(errors.UserError, match=f"{norm}.*positions"):
          model_contract.make(name, norm=made, placement=placement)
      continue
    refusal = _refusal(made, rule)
    if refusal:
      with pytest.raises(errors.UserError, match=refusal):
        model_contract.make(name, norm=norm, placement=placement)
      # The sphere takes some without their gains.
      bare = {k: False for k in ("use_scale", "use_bias") if k in made.options}
      made = norms.make(norm, **bare)
      refusal = _refusal(made, rule)
    if not refusal and norm in those:
      # Few norms are enough for a stack; all are in a block.
      layers = {} if norm in FEW else {"num_layers": 1}
      model = model_contract.make(
        name, norm=made, placement=placement, **layers
      )
      _step(norm, *model)
      ran += 1
  assert ran >= min(3, len(those))
