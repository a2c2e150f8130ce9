"""Norms that see more than one token, in models of sequences."""

import jax
import jax.numpy as jnp
import pytest

from normjax import errors, norms
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract
from tests.norms import cases

MIXING = [
  name for name in norms.names() if cases.make(name).traits.mixes_positions
]


@pytest.mark.parametrize("name", MIXING)
def test_a_causal_model_refuses_what_mixes_positions(name):
  """In every slot; the message says which norm, which slot, what instead."""
  norm = cases.make(name)
  for model, options, slot in (
    ("llama", {"norm": norm}, "attention_input"),
    ("gpt2", {"slot_norms": {"final": norm}}, "final"),
    ("llama", {"slot_norms": {"query_key": norm}}, "attention_query_key"),
    ("llama", {"slot_norms": {"inner": norm}}, "inner"),
    ("gpt2", {"slot_norms": {"feed_forward_inner": norm}}, "inner"),
  ):
    with pytest.raises(
      errors.UserError, match=f"{name}.*{slot}.*later one.*'rms_norm'"
    ):
      model_contract.make(model, **options)


def test_a_model_that_sees_everything_takes_them_but_inside_attention():
  norm = cases.make("group_norm")
  model, images = model_contract.make("vit", norm=norm)
  structure, variables = nn_variables.split(model)
  logits = jax.eval_shape(
    lambda held, x: nn_variables.merge(structure, held)(x), variables, images
  )
  assert logits.shape[0] == len(images)
  with pytest.raises(errors.UserError, match="group_norm.*inside attention"):
    model_contract.make("vit", slot_norms={"query_key": norm})


@pytest.mark.parametrize("name", ["power_norm", "unified_norm"])
def test_padding_moves_no_weight(name):
  """Another id where there is padding; `padding_in_gradient` lets it."""
  mask = jnp.arange(6) < jnp.array([[6], [3]])

  def gradient_of(**options):
    norm = norms.make(name, **options)
    model, _ = model_contract.make("llama", norm=norm, num_layers=1)
    structure, variables = nn_variables.split(model)

    @jax.jit
    def gradient(grad_stats, tokens):
      def loss(params):
        held = {**variables, "params": params, "grad_stats": grad_stats}
        model = nn_variables.merge(structure, held)
        logits = model(tokens, mask_bt=mask)
        return jnp.sum(jnp.where(mask[..., None], logits**2, 0))

      return jax.grad(loss)(variables["params"])

    # Off their start at 0, at which padding has no gradient.
    moved = jax.tree.map(lambda leaf: leaf + 0.5, variables["grad_stats"])
    return lambda pad: gradient(
      moved, jnp.where(mask, jnp.arange(12).reshape(2, 6), pad)
    )

  def largest_change(gradient):
    one, other = gradient(20), gradient(21)
    changes = jax.tree.map(lambda a, b: jnp.abs(a - b).max(), one, other)
    return float(max(jax.tree.leaves(changes)))

  assert largest_change(gradient_of()) == 0
  assert largest_change(gradient_of(padding_in_gradient=True)) > 1e-3
