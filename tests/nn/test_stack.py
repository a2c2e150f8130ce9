"""What the blocks of a stack do together, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, models
from normjax.nn import variables as nn_variables

TINY = {
  "vocab_size": 23,
  "num_layers": 4,
  "num_heads": 2,
  "model_dim": 16,
}
TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 23, (3, 6)))


def _parts(**options):
  return nn_variables.split(models.make("llama", **{**TINY, **options}))


def _step(structure, variables, key=None):
  """Loss, gradients, logits and new statistics."""

  @jax.jit
  def step(variables):
    def loss(params, grad_stats):
      given = {**variables, "params": params, "grad_stats": grad_stats}
      model = nn_variables.merge(structure, given)
      logits = model(TOKENS, key=key)
      stats = nn_variables.split(model)[1]["stats"]
      return jnp.mean(jnp.square(logits - 1)), (logits, stats)

    return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(
      variables["params"], variables["grad_stats"]
    )

  return step(variables)


def _assert_equal(actual, expected):
  """Within the roundings of another order of the same operations.

  A gradient here is a sum of 18 tokens x 64 hidden features through 8
  branches, each with some ten roundings: 2^-24 x 18 x 64 = 7e-5 of the
  largest value of its kind.
  """
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(
      np.float64(a), np.float64(e), rtol=0, atol=7e-5 * largest
    ),
    actual,
    expected,
  )


@pytest.mark.parametrize(
  ("norm", "placement", "options"),
  [
    pytest.param("rms_norm", "layer_norm_scaling", {}, marks=pytest.mark.slow),
    pytest.param(
      "rms_norm", "mix", {"residual": "rezero"}, marks=pytest.mark.slow
    ),
    ("batch_norm", "post", {}),
    ("rms_norm", "hybrid_star", {"dropout_rate": 0.1}),
  ],
)
def test_scanned_and_rematerialized_layers_are_the_unrolled_ones(
  norm, placement, options
):
  """Also with gains, statistics and keys that differ by layer."""
  options = {"norm": norm, "placement": placement, **options}
  key = jax.random.key(3) if "dropout_rate" in options else None
  structure, variables = _parts(**options)
  expected = _step(structure, variables, key)
  for how in ({"scan_layers": True}, {"scan_layers": True, "remat": True}):
    other, same = _parts(**options, **how)
    jax.tree.map(np.testing.assert_array_equal, same, variables)
    _assert_equal(_step(other, variables, key), expected)


def test_remat_without_a_loop():
  structure, variables = _parts(num_layers=1)
  other, _ = _parts(num_layers=1, remat=True)
  _assert_equal(_step(other, variables), _step(structure, variables))


def test_a_scan_is_one_program_whatever_the_depth():
  def lowered(num_layers):
    structure, variables = _parts(num_layers=num_layers, scan_layers=True)
    model = jax.jit(lambda v: nn_variables.merge(structure, v)(TOKENS))
    return model.lower(variables).as_text().count("dot_general")

  assert lowered(6) == lowered(24)


def test_slots_take_norms_of_their_own():
  _, variables = _parts(
    num_layers=1,
    slot_norms={
      "final": "layer_norm",
      "attention_input": "dyt(alpha_init=0.8)",
      "feed_forward_input": {"name": "dyt", "alpha_init": 0.2},
      "query_key": "rms_norm",
      "inner": "layer_norm(use_bias=False)",
      "embedding": "rms_norm",
      "hidden": "rms_norm",
      "value": None,
    },
  )
  params = variables["params"]
  block = params["layers"]["0"]
  np.testing.assert_allclose(block["attention_input_norm"]["alpha"], 0.8)
  np.testing.assert_allclose(block["feed_forward_input_norm"]["alpha"], 0.2)
  assert set(params["final_norm"]) == {"scale", "bias"}
  assert params["embedding_norm"]["scale"].shape == (16,)
  assert block["attention"]["query_norm"]["scale"].shape == (8,)
  assert block["attention"]["inner_norm"]["scale"].shape == (16,)
  assert block["feed_forward"]["inner_norm"]["scale"].shape == (48,)
  assert block["feed_forward"]["hidden_norm"]["scale"].shape == (48,)
  assert "value_norm" not in block["attention"]


def test_rezero_has_one_factor_a_layer_and_starts_as_the_identity():
  structure, variables = _parts(residual="rezero")
  block = variables["params"]["layers"]["0"]
  assert block["branch_gain"] == 0
  assert not {"attention_gain", "feed_forward_gain"} & set(block)
  _, (gradient, _) = _step(structure, variables)
  first = gradient["layers"]["0"]
  # The factor moves first: the kernels behind it wait for it.
  assert first["branch_gain"] != 0
  assert not np.any(first["attention"]["out"]["kernel"])


@pytest.mark.parametrize("residual", ["inverse_depth", "inverse_sqrt_depth"])
def test_depth_counts_branches(residual):
  structure, variables = _parts(num_layers=1, residual=residual)
  plain, _ = _parts(num_layers=1, slot_norms={"final": "identity"})
  structure, _ = _parts(
    num_layers=1, residual=residual, slot_norms={"final": "identity"}
  )
  del variables["params"]["final_norm"]
  factor = 0.5 if residual == "inverse_depth" else 0.5**0.5
  # With no values to mix, the attention adds nothing.
  block = variables["params"]["layers"]["0"]
  block["attention"]["value"]["kernel"] *= 0
  scaled = nn_variables.merge(structure, variables)(TOKENS)
  down = block["feed_forward"]["down"]
  down["kernel"] = down["kernel"] * factor
  want = nn_variables.merge(plain, variables)(TOKENS)
  np.testing.assert_allclose(scaled, want, atol=1e-6)


def test_fixup_starts_as_the_identity_with_a_zero_head():
  _, variables = _parts(residual="fixup", norm="identity")
  block = variables["params"]["layers"]["0"]
  assert not np.any(block["attention"]["out"]["kernel"])
  assert not np.any(block["feed_forward"]["down"]["kernel"])
  assert not np.any(variables["params"]["head"]["kernel"])
  # Eight branches: 0.02 / sqrt(8), off by 5 / sqrt(2 n) at most.
  kernel = block["feed_forward"]["up"]["kernel"]
  np.testing.assert_allclose(
    np.std(kernel), 0.02 / 8**0.5, rtol=5 / (2 * kernel.size) ** 0.5
  )


def test_layer_scale_is_a_vector_a_branch():
  _, variables = _parts(residual="layer_scale(initial=0.1)")
  gain = variables["params"]["layers"]["1"]["attention_gain"]
  np.testing.assert_allclose(gain, np.full(16, 0.1, np.float32))


def test_the_normalized_stream_starts_at_a_twentieth():
  """|a| = 0.05 at first, stored as 1 / sqrt(d): arXiv:2410.01131, 2.5."""
  model = models.make(
    "llama", **TINY, placement="normalized_stream", norm="l2_norm"
  )
  block = model.layers[0]
  np.testing.assert_allclose(block.attention_rate[...], 0.25)
  np.testing.assert_allclose(block._factor(0), 0.05, rtol=1e-6)


def test_readers_have_scales_of_their_own():
  structure, variables = _parts(reader_scales=True)
  plain, _ = _parts()
  block = variables["params"]["layers"]["0"]
  assert "attention_input_norm" not in block
  assert {"query_scale", "key_scale", "value_scale"} <= set(block["attention"])
  assert {"gate_scale", "up_scale"} <= set(block["feed_forward"])
  # All ones: the function of the shared gain.
  same = jax.tree.map(lambda leaf: leaf, variables)
  for layer in same["params"]["layers"].values():
    for branch, slot in (("attention", "query"), ("feed_forward", "up")):
      held = layer[branch]
      scale = held.pop(f"{slot}_scale")
      for name in [name for name in held if name.endswith("_scale")]:
        held.pop(name)
      layer[f"{branch}_input_norm"] = {"scale": scale}
  np.testing.assert_allclose(
    nn_variables.merge(structure, variables)(TOKENS),
    nn_variables.merge(plain, same)(TOKENS),
    atol=1e-6,
  )


def test_bhyt_hands_its_variance_on_in_a_pre_block():
  """The second norm is not the exact one, but near it."""
  structure, variables = _parts(norm="bhyt", num_layers=1)
  exact, _ = _parts(norm="bhyt(variance='exact')", num_layers=1)
  # Values and outputs large enough for the difference to show.
  attention = variables["params"]["layers"]["0"]["attention"]
  for name in ("value", "out"):
    attention[name]["kernel"] = attention[name]["kernel"] * 20
  handed = nn_variables.merge(structure, variables)(TOKENS)
  computed = nn_variables.merge(exact, variables)(TOKENS)
  assert np.any(handed != computed)
  assert np.isfinite(handed).all()


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"slot_norms": {"outputs": "rms_norm"}},
      "no slot 'outputs'. Did you mean",
    ),
    (
      {"slot_norms": {"output": "rms_norm"}},
      "placement 'pre' has no such slot; it has attention_input",
    ),
    (
      {"placement": "normalized_stream", "norm": "dyt"},
      "^placement=.* norm 'dyt' does not fix for each token",
    ),
    (
      {"placement": "normalized_stream"},
      r"^placement=.* the scale of norm 'rms_norm' would change;"
      r" norm must be rms_norm\(use_scale=False\) or l2_norm",
    ),
    (
      {
        "placement": "normalized_stream",
        "norm": "l2_norm",
        "slot_norms": {"output": "l2_norm(use_scale=True)"},
      },
      r"^slot_norms.output=.* the scale of norm 'l2_norm' would change;"
      " slot_norms.output must be",
    ),
    (
      {
        "placement": "normalized_stream",
        "norm": "l2_norm",
        "slot_norms": {"embedding": "layer_norm(use_scale=False)"},
      },
      r"^slot_norms.embedding=.* the bias of norm 'layer_norm' would",
    ),
    (
      {
        "placement": "normalized_stream",
        "norm": "l2_norm",
        "residual": "skip_init",
      },
      "residual='skip_init' does not go with it",
    ),
    (
      {"placement": "post", "norm": "bhyt"},
      "Use variance='exact', or placement 'pre'",
    ),
    (
      {"reader_scales": True, "norm": "batch_norm"},
      "needs the option use_scale; 'batch_norm' has none",
    ),
    ({"reader_scales": True, "placement": "post"}, "needs an input norm"),
    ({"mixing": "soft"}, "causal"),
    ({"residual": "rezeros"}, "unknown residual scaling 'rezeros'. Did you"),
    ({"init": "xaver"}, "unknown init 'xaver'. Did you mean 'xavier'"),
    ({"activation": "swish"}, "activation='swish'; allowed: .* Did you mean"),
    ({"size": "61m"}, "llama has no size '61m'. Did you mean"),
    ({"slot_norms": {"query_key": "seednorm(num_heads=3)"}}, "num_heads"),
  ],
)
def test_what_makes_no_sense_is_refused(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("llama", **{**TINY, **options})
