"""Gains around the matrices that read an input norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import build, configure, errors, models, norms, optim
from normjax.nn import model_roles, scale_vectors
from normjax.nn import variables as nn_variables
from normjax.norms import magnitude
from normjax.optim import groups, masks
from tests.contracts import model_contract

FORM = "rms_norm(scale_form='magnitude_direction')"
ALL = {
  "norm": FORM,
  "reader_scales": True,
  "reader_output_scales": "normalized",
  "num_kv_heads": 1,
}
READERS = {
  "attention": ("query", "key", "value"),
  "feed_forward": ("gate", "up"),
}


def _make(**options):
  model, inputs = model_contract.make("llama", num_layers=1, **options)
  return *model_contract.split_off_the_start(model), inputs


def _gain(params, name):
  """The gain of that name, whatever its form; taken out of `params`."""
  held = params.pop(name)
  return magnitude.gain(held) if isinstance(held, dict) else held


@pytest.mark.parametrize("form", magnitude.FORMS)
def test_gains_add_no_function(form):
  """Folded into the kernels they leave the logits as they are.

  Each logit is a sum of some 200 products: 200 x 2^-24 of the largest.
  """
  norm = f"rms_norm(scale_form={form!r})"
  structure, variables, inputs = _make(
    norm=norm, reader_scales=True, reader_output_scales="plain"
  )
  logits = nn_variables.merge(structure, variables)(inputs, train=False)
  params = jax.tree.map(lambda leaf: leaf, variables["params"])
  block = params["layers"]["0"]
  for branch, readers in READERS.items():
    for reader in readers:
      kernel = block[branch][reader]["kernel"]
      on_inputs = _gain(block[branch], f"{reader}_scale")
      on_outputs = _gain(block[branch], f"{reader}_output_scale")
      flat = kernel.reshape(kernel.shape[0], -1)
      folded = on_inputs[:, None] * flat * on_outputs
      block[branch][reader]["kernel"] = folded.reshape(kernel.shape)
  without = nnx.eval_shape(
    lambda: model_contract.make(
      "llama",
      num_layers=1,
      norm=norm,
      slot_norms={"input": "rms_norm(use_scale=False)"},
    )[0]
  )
  plain = nn_variables.merge(
    nn_variables.split(without)[0], {**variables, "params": params}
  )
  np.testing.assert_allclose(
    plain(inputs, train=False),
    logits,
    atol=200 * 2**-24 * np.abs(logits).max(),
  )


def test_at_first_the_model_is_the_one_without():
  """The same kernels are drawn, and every gain is 1."""
  plain, inputs = model_contract.make("llama", norm="rms_norm")
  for options in (
    {"reader_output_scales": "plain"},
    {"norm": FORM, "reader_scales": True},
  ):
    gained, _ = model_contract.make("llama", **options)
    # The length of d ones is d^(1/2) within a rounding.
    np.testing.assert_allclose(gained(inputs), plain(inputs), atol=1e-6)


def test_a_norm_between_is_over_all_heads():
  """A float64 transcription of s_out * N(W (s_in * x))."""
  rng = np.random.default_rng(0)
  holder = nnx.Module()
  holder.query = nnx.LinearGeneral(4, (2, 3), rngs=nnx.Rngs(0))
  vectors = scale_vectors.ScaleVectors(
    inputs=True,
    outputs=True,
    between=norms.make("rms_norm", eps=0.1, use_scale=False),
    form="magnitude_direction",
  )
  vectors.attach(holder, "query", 4, 6)
  v_in, v_out, bias = rng.normal(size=4), rng.normal(size=6), rng.normal(size=6)
  holder.query.bias[...] = bias.reshape(2, 3)
  holder.query_scale.magnitude[...] = -2.0
  holder.query_scale.direction[...] = v_in
  holder.query_output_scale.magnitude[...] = 0.5
  holder.query_output_scale.direction[...] = v_out
  x = rng.normal(size=(2, 3, 4))
  y = vectors.read(holder, "query", jnp.float32(x), train=True, mask=None)
  kernel = np.float64(holder.query.kernel[...]).reshape(4, 6)
  inner = (-2.0 * v_in / np.linalg.norm(v_in) * x) @ kernel + bias
  inner /= np.sqrt((inner**2).mean(-1, keepdims=True) + 0.1)
  expected = 0.5 * v_out / np.linalg.norm(v_out) * inner
  np.testing.assert_allclose(y, expected.reshape(2, 3, 2, 3), rtol=1e-5)


def test_every_gain_is_trained_also_scanned_and_side_by_side():
  """One after the other, and in a loop of rematerialized layers under vmap."""
  model, inputs = model_contract.make("llama", **ALL)
  structure, variables = model_contract.split_off_the_start(model)
  looped = {**ALL, "scan_layers": True, "remat": True}
  other = nnx.eval_shape(lambda: model_contract.make("llama", **looped)[0])

  def gradient(structure):
    loss = model_contract.objective(structure, inputs)
    return jax.grad(lambda p: loss(p, {**variables, "params": p})[0])

  params = variables["params"]
  expected = jax.jit(gradient(structure))(params)
  for path, leaf in groups.leaves(expected):
    assert np.isfinite(leaf).all(), path
    assert np.any(leaf), path
  twice = jax.tree.map(lambda leaf: jnp.stack([leaf] * 2), params)
  both = jax.jit(jax.vmap(gradient(nn_variables.split(other)[0])))(twice)
  # The same sums in another order: see test_stack.
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected))
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a[1], e, atol=7e-5 * largest),
    both,
    expected,
  )


def test_a_direction_of_zeros_is_a_gain_of_zeros():
  zero = {"magnitude": jnp.ones(()), "direction": jnp.zeros(3)}
  gain, pull = jax.vjp(magnitude.gain, zero)
  assert not gain.any()
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(pull(gain)))


# ----- What an optimizer makes of them -----


@pytest.mark.parametrize("norm", ["rms_norm", FORM])
def test_the_decay_is_of_what_a_matrix_reads(norm):
  """By the config; matrices decay as ever, directions never."""
  config = configure.override(
    configure.load("configs/default.py"),
    {"optimizer.name": "sgd", "optimizer.mask": "input_scales"},
  )
  config.optimizer.weight_decay = 0.1
  options = {**ALL, "norm": norm, "num_layers": 1}
  model = nnx.eval_shape(lambda: model_contract.make("llama", **options)[0])
  params = nn_variables.split(model)[1]["params"]
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
  ones = jax.tree.map(np.ones_like, zeros)
  tx = build.optimizer(config, roles=model_roles.of(model))
  updates, _ = tx.update(zeros, tx.init(ones), ones)
  moved = {path: bool(np.any(u)) for path, u in groups.leaves(updates)}
  assert moved == dict(groups.leaves(optim.selective_decay()(ones)))
  ends = ("_scale", "_scale/magnitude")
  assert {path for path, decays in moved.items() if decays} == {
    path
    for path in moved
    if path.endswith(("kernel", "embedding"))
    or (path.endswith(ends) and "output_scale" not in path)
  }


def test_matrix_methods_leave_gains_to_the_fallback():
  model = nnx.eval_shape(lambda: model_contract.make("llama", **ALL)[0])
  params = nn_variables.split(model)[1]["params"]
  routed = optim.describe("muon", params, dims=model_roles.of(model).dims)
  gains = {update for path, update in routed.items() if "_scale" in path}
  assert gains == {"adamw (fallback)"}


# ----- What is refused -----


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"reader_output_scales": "both"},
      "reader_output_scales='both'; allowed: 'plain', 'normalized'",
    ),
    (
      {"reader_output_scales": "normalized", "placement": "post"},
      "takes the input norm of the attention branch; placement 'post' has none",
    ),
    (
      {"reader_output_scales": "normalized", "norm": "seednorm"},
      "='normalized' takes the gain from the norm.*'seednorm' has none",
    ),
    (
      {"reader_output_scales": "normalized", "norm": "bhyt"},
      "Use variance='exact', or 'plain'",
    ),
    (
      {"reader_scales": True, "norm": "rms_norm(zero_centered=True)"},
      "reader_scales=True: rms_norm: zero_centered=True is about the scale",
    ),
    ({"norm": "rms_norm(scale_form='mag')"}, "scale_form='mag'; allowed"),
    (
      {"norm": "rms_norm(scale_form='magnitude_direction', use_scale=False)"},
      "needs use_scale=True and zero_centered=False; got use_scale=False",
    ),
  ],
)
def test_what_makes_no_sense_is_refused(options, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("llama", **{**model_contract.SIZES["llama"], **options})


def test_a_mask_that_is_no_name_is_refused():
  meant = "Did you mean 'input_scales'"
  with pytest.raises(errors.UserError, match=meant):
    optim.adamw(0.1, mask="input_scale").init({"kernel": jnp.ones((2, 2))})
  config = configure.override(
    configure.load("configs/default.py"), {"optimizer.mask": "input_scale"}
  )
  with pytest.raises(errors.UserError, match=f"optimizer.mask=.*{meant}"):
    build.optimizer(config)


@pytest.mark.parametrize("mask", [None, "", "default", "all"])
def test_a_config_may_name_the_mask(mask):
  """Not named, or "": the optimizer's own, of AdamP every leaf."""
  changes = {"optimizer.name": "adamp", "optimizer.weight_decay": 0.1}
  if mask is not None:
    changes["optimizer.mask"] = mask
  config = configure.override(configure.load("configs/default.py"), changes)
  tree = {"kernel": np.ones((2, 2), np.float32), "bias": np.ones(2, np.float32)}
  tx = build.optimizer(config)
  updates, _ = tx.update(jax.tree.map(np.zeros_like, tree), tx.init(tree), tree)
  assert bool(np.any(updates["bias"])) == (mask != "default")
  assert np.any(updates["kernel"])


def test_all_leaves_may_decay():
  tree = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
  for every in ("all", None):
    assert masks.resolve_mask(every, tree) == [True, True]


# ----- What a run is called -----


def test_a_run_without_them_keeps_its_name():
  """With the values of the time before, a config is that of that time."""
  config = configure.load("configs/default.py")
  flat = dict(configure.leaves(configure.to_dict(config)))
  assert not configure.ADDED.keys() & flat.keys()
  for path, value in {
    "model.drop_path_rate": 0.1,
    "model.reader_output_scales": "plain",
    "norm.scale_form": "magnitude_direction",
  }.items():
    changed = configure.override(config, {path: value})
    assert configure.run_id(changed) != configure.run_id(config)
    assert build.program_key(changed) != build.program_key(config)
    back = configure.override(changed, {path: configure.ADDED[path]})
    assert configure.run_id(back) == configure.run_id(config)
