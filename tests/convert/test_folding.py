"""Norms folded into the linear layers beside them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import convert, errors, models
from normjax.nn import variables as nn_variables
from normjax.nn.norm_layer import NormLayer
from tests import support
from tests.contracts import model_contract

TOKENS = np.arange(12).reshape(2, 6) % 23
IMAGES = support.normal(2, 8, 8, 3)
SMALL = {
  **model_contract.SIZES,
  **{
    name: {**model_contract.SIZES[name], "num_layers": 1}
    for name in ("gpt2", "llama", "vit")
  },
}
INPUTS = {"gpt2": TOKENS, "llama": TOKENS, "mlp": support.normal(4, 12)}


def moved(name, **options):
  """A small model whose parameters and statistics are not where they start."""
  model = models.make(name, **{**SMALL[name], **options})
  structure, variables = nn_variables.split(model)
  params = model_contract.moved_off(variables["params"], 0.1)
  # Positive: they are means and variances.
  stats = jax.tree.map(
    lambda leaf: leaf + 0.3 if leaf.dtype == jnp.float32 else leaf,
    variables["stats"],
  )
  return nn_variables.merge(
    structure, {**variables, "params": params, "stats": stats}
  )


def kinds(model):
  """The norms of a model that have parameters, statistics, or compute."""
  return {
    "/".join(map(str, path)): layer.norm.name
    for path, layer in nnx.iter_modules(model)
    if isinstance(layer, NormLayer) and layer.norm.name != "identity"
  }


# Model, its options, whether readers get biases; the norms that are left, as
# a share of those that there are.
CASES = {
  "layer norm": ("gpt2", {}, False, ["final_norm"]),
  "untied": ("gpt2", {"tied_embeddings": False}, True, []),
  "parallel": ("gpt2", {"placement": "parallel"}, False, ["final_norm"]),
  "sub_ln": ("vit", {"placement": "sub_ln"}, False, []),
  "input factors": (
    "vit",
    {"placement": "layer_norm_scaling", "num_layers": 2},
    False,
    [],
  ),
  "rms norm": ("llama", {}, False, []),
  "zero-centred": (
    "llama",
    {"norm": "rms_norm(zero_centered=True)"},
    False,
    [],
  ),
  "length": (
    "llama",
    {"norm": "rms_norm(scale_form='magnitude_direction')"},
    False,
    [],
  ),
  "readers' gains": (
    "vit",
    {"reader_scales": True, "reader_output_scales": "plain"},
    False,
    [],
  ),
  "dyt": ("llama", {"norm": "dyt"}, True, []),
  "derf": ("vit", {"norm": "derf"}, False, []),
  "bhyt": (
    "vit",
    {"norm": "bhyt", "slot_norms": {"inner": "rms_norm"}},
    False,
    [f"layers/0/attention{norm}" for norm in ("/inner_norm", "_input_norm")],
  ),
  "unified": ("vit", {"norm": "unified_norm"}, False, []),
  "mean pooling": (
    "vit",
    {"norm": "batch_norm", "pooling": "mean"},
    False,
    [],
  ),
  "hidden": (
    "vit",
    {"norm": "identity", "slot_norms": {"hidden": "batch_norm"}},
    False,
    [],
  ),
  "mlp": ("mlp", {"norm": "batch_norm"}, False, []),
  "kernel norm": (
    "mlp",
    {"norm": "batch_norm", "weight_norm": "weight_norm"},
    False,
    [],
  ),
  "resnet": ("cifar_resnet", {"conv_norm_mode": "tune"}, False, []),
  "resnet v2": (
    "cifar_resnet",
    {"version": "v2"},
    False,
    ["layers/1/norm/norm", "layers/2/norm/norm", "norm/norm"],
  ),
}


QUICK = ("layer norm", "dyt", "unified", "mlp")


@pytest.mark.parametrize(
  "case",
  [
    case if case in QUICK else pytest.param(case, marks=pytest.mark.slow)
    for case in CASES
  ],
)
def test_outputs_stay_and_nothing_is_slower(case):
  name, options, new_biases, left = CASES[case]
  with jax.enable_x64(True):
    inputs = jax.tree.map(
      lambda x: x if x.dtype.kind == "i" else np.asarray(x, np.float64),
      np.asarray(INPUTS.get(name, IMAGES)),
    )
    model = moved(name, **options)
    folded, account = convert.fold(model, inputs, new_biases=new_biases)
    assert sorted(account.left) == left
    norms = [path for path in account.folded if not path.endswith("_scale")]
    assert len(norms) == len(kinds(model)) - len(left)
    # Parameters are float32, which each fold rounds once: sums of up to 128
    # products, relative to the largest output.
    assert account.largest_difference < 64 * 2**-24
  assert account.parameters[1] < account.parameters[0] or new_biases
  if not new_biases:
    assert account.operations[1] <= account.operations[0]
    assert account.moved_bytes[1] <= account.moved_bytes[0]
  assert set(kinds(folded)) >= set(left)


def test_models_in_bfloat16_differ_by_their_rounding():
  model = moved("mlp", norm="batch_norm", compute_dtype="bfloat16")
  _, account = convert.fold(model, INPUTS["mlp"])
  # Above what float32 rounds, and below half of the digits of bfloat16.
  assert 2**-12 < account.largest_difference < 2**-4


def test_parameters_in_bfloat16_differ_by_their_rounding():
  structure, variables = nn_variables.split(moved("llama"))
  params = jax.tree.map(lambda p: p.astype("bfloat16"), variables["params"])
  model = nn_variables.merge(structure, {**variables, "params": params})
  _, account = convert.fold(model, INPUTS["llama"])
  # The gain and its product with a kernel are rounded, the sums are not.
  assert 2**-12 < account.largest_difference < 2**-4


def test_against_the_formula_by_hand():
  model = moved("gpt2", tied_embeddings=False)
  before = jax.tree.map(np.float64, nn_variables.split(model)[1]["params"])
  folded, _ = convert.fold(model, new_biases=True)
  after = nn_variables.split(folded)[1]["params"]
  norm, query = (
    before["layers"]["0"][key] for key in ("attention_input_norm", "attention")
  )
  kernel, bias = (query["query"][key] for key in ("kernel", "bias"))
  found = after["layers"]["0"]["attention"]["query"]
  want = norm["scale"][:, None, None] * kernel
  np.testing.assert_allclose(found["kernel"], want, rtol=2**-23)
  want = bias + np.einsum("d,dhk->hk", norm["bias"], kernel)
  np.testing.assert_allclose(found["bias"], want, rtol=0, atol=16 * 2**-23)
  head = before["head"]["kernel"]
  want = before["final_norm"]["bias"] @ head
  np.testing.assert_allclose(after["head"]["bias"], want, atol=16 * 2**-23)
  assert "final_norm" not in after
  # Nothing of the model that was given has moved.
  jax.tree.map(
    np.testing.assert_array_equal,
    nn_variables.split(model)[1]["params"],
    jax.tree.map(np.float32, before),
  )


def test_why_norms_are_left_is_said():
  model = moved("gpt2", output_gate="headwise", slot_norms={"inner": "dyt"})
  left = convert.fold(model)[1].left
  assert left["final_norm"] == "layer_norm: the head is the embedding, too"
  assert "output_gate stands between" in left["layers/0/attention/inner_norm"]
  with pytest.raises(
    errors.UserError, match=r"final_norm \(seednorm: its gain"
  ):
    convert.fold(moved("llama", norm="seednorm"))
  with pytest.raises(errors.UserError, match="SpikingMLP"):
    convert.fold(moved("spiking_mlp"))
