"""Padding, on either side, leaves the logits of real tokens as they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models
from normjax.nn import mixing
from normjax.nn import variables as nn_variables
from tests.contracts import model_contract

TOKENS = np.random.default_rng(0).integers(0, 23, (3, 5)).astype(np.int32)
# Real tokens of each example in a batch of eight: all on the left, on the
# right, in the middle, and with holes between them.
PLACES = (
  ((0, 1, 2, 3, 4),) * 3,
  ((3, 4, 5, 6, 7),) * 3,
  ((0, 1, 2, 3, 4), (3, 4, 5, 6, 7), (0, 2, 3, 6, 7)),
)
DECODERS = tuple(n for n in models.names() if "tokens" in models.get(n).reads)
CAUSAL = tuple(n for n in mixing.names() if mixing.make(n).traits.causal)


def _cases():
  for name in DECODERS:
    yield name, {}
    for mix in CAUSAL:
      if mix != "softmax":
        # What one layer hides, the next need not show.
        yield name, {"mixing": mix, "num_layers": 1}
  # Statistics of the batch, and of what the attention averages.
  yield "llama", {"norm": "batch_norm", "placement": "post"}
  yield "llama", {"norm": "bhyt"}
  yield "gpt2", {"scan_layers": True, "remat": True}


def _model(name, options):
  """Parameters far off the start, so that positions and branches count."""
  options = {**model_contract.SIZES[name], **options}
  structure, variables = nn_variables.split(
    nnx.eval_shape(lambda: models.make(name, **options))
  )
  rng = np.random.default_rng(1)

  def draw(path, leaf):
    # What bhyt hands on goes with its square.
    mean = 5.0 if path[-1].key == "lam" else 0.0
    drawn = mean + 0.3 * rng.normal(size=leaf.shape)
    return jnp.asarray(drawn, jnp.float32)

  params = jax.tree.map_with_path(draw, variables["params"])
  stats = jax.tree.map(
    lambda leaf: jnp.ones(leaf.shape, leaf.dtype), variables["stats"]
  )
  return structure, {**variables, "params": params, "stats": stats}


@pytest.mark.parametrize(
  ("name", "options"),
  list(_cases()),
  ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_padding_does_not_show(name, options):
  structure, variables = _model(name, options)

  @jax.jit
  def logits(tokens, mask=None):
    model = nn_variables.merge(structure, variables)
    return model(tokens, train=True, mask_bt=mask)

  want = np.asarray(logits(TOKENS))
  # Each token takes part in some ten sums of at most 64 products, thrice in a
  # block: the bound of `test_equality`.
  bound = 5 * (12 * 64) ** 0.5 * 2**-24 * np.abs(want).max()
  for places in PLACES:
    rows = np.arange(3)[:, None]
    tokens, mask = np.full((3, 8), 7, np.int32), np.zeros((3, 8), bool)
    tokens[rows, places], mask[rows, places] = TOKENS, True
    got = np.asarray(logits(tokens, mask))[rows, places]
    np.testing.assert_allclose(got, want, rtol=0, atol=bound)


def test_examples_of_another_length_do_not_show():
  """With the norm that is told how many tokens the attention averages."""
  structure, variables = _model("llama", {"norm": "bhyt"})

  @jax.jit
  def logits(tokens, mask):
    model = nn_variables.merge(structure, variables)
    return model(tokens, train=False, mask_bt=mask)

  mask = np.arange(5) >= np.array([[0], [2], [3]])
  got = np.asarray(logits(TOKENS, mask))
  want = np.asarray(logits(TOKENS, np.broadcast_to(mask[1], (3, 5))))
  bound = 5 * (12 * 64) ** 0.5 * 2**-24 * np.abs(want).max()
  np.testing.assert_allclose(got[1, 2:], want[1, 2:], rtol=0, atol=bound)


@pytest.mark.parametrize("name", DECODERS)
def test_positions_may_be_given(name):
  """As from the mask; shifted, only learned positions notice."""
  structure, variables = _model(name, {})
  model = nn_variables.merge(structure, variables)
  plain = model(TOKENS, train=False)
  mask = np.arange(5) >= np.array([[0], [2], [3]])
  positions = np.maximum(np.cumsum(mask, axis=1) - 1, 0)
  np.testing.assert_array_equal(
    model(TOKENS, train=False, mask_bt=mask, position_ids=positions),
    model(TOKENS, train=False, mask_bt=mask),
  )
  np.testing.assert_array_equal(
    model(TOKENS, train=False, position_ids=np.arange(5)), plain
  )
  shifted = model(TOKENS, train=False, position_ids=np.arange(5) + 100)
  # Angles of other positions are rounded otherwise: 3e-7 each.
  moved = np.abs(shifted - plain).max() > 1e-4 * np.abs(plain).max()
  assert moved == (name == "gpt2")


def test_the_first_token_is_the_first_real_one():
  structure, variables = _model("llama", {})
  model = nn_variables.merge(structure, variables)

  def mass(tokens, mask=None):
    _, sown = nnx.capture(
      lambda model: model(tokens, train=False, mask_bt=mask), nnx.Intermediate
    )(model)
    return nnx.to_pure_dict(sown)["layers"][0]["attention"]["first_token_mass"][
      0
    ]

  mask = np.broadcast_to(np.arange(8) >= 3, (3, 8))
  padded = np.pad(TOKENS, ((0, 0), (3, 0)))
  np.testing.assert_allclose(mass(padded, mask), mass(TOKENS), rtol=1e-5)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"position_ids": np.arange(5) + 5},
      r"position_ids go from 5 to 9; with max_length=9 they must be 0 to 8",
    ),
    ({"position_ids": np.arange(5) - 1}, "position_ids go from -1 to 3"),
    (
      {"position_ids": np.zeros(4, int)},
      r"position_ids have one entry per token",
    ),
    ({"position_ids": np.zeros(5)}, "position_ids must be integers"),
    ({"mask_bt": np.ones((3, 4), bool)}, "mask_bt has one entry per token"),
  ],
)
def test_positions_that_do_not_fit_are_named(options, message):
  model, _ = model_contract.make("gpt2", max_length=9)
  with pytest.raises(errors.UserError, match=message):
    model(TOKENS, **options)
