"""Matrices held in factors: against official code, in bytes, in models."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import errors, models, optim
from normjax.nn import linear, model_roles
from normjax.nn import variables as nn_variables
from normjax.nn.linear import lora, sparse_low_rank

OFFICIAL = pathlib.Path(__file__).parent / "official"
WAYS = {
  "sltrain": "sltrain(rank=3, density=0.1, alpha=6.0)",
  "low_rank": "low_rank(rank=3, alpha=6.0)",
  "lora": "lora(rank=3, alpha=6.0)",
  "relora": "relora(rank=3, alpha=6.0, restart_every=2)",
}


def layer_of(spec, inputs=7, outputs=5, seed=0, dtype=jnp.float32):
  """A layer with a bias."""
  return linear.resolve(spec).make(
    inputs,
    outputs,
    use_bias=True,
    kernel_init=nnx.initializers.normal(0.1),
    dtype=dtype,
    rngs=nnx.Rngs(seed),
  )


def filled(layer, seed=1):
  """The layer with all its parameters away from where they start."""
  rng = np.random.default_rng(seed)
  for _, variable in nnx.to_flat_state(nnx.state(layer, nnx.Param)):
    shape = variable.get_value().shape
    variable.set_value(jnp.asarray(rng.normal(size=shape), jnp.float32))
  return layer


def recorded(name):
  """Arrays of the official code."""
  with np.load(OFFICIAL / f"{name}.npz") as file:
    return dict(file)


def test_sltrain_is_the_official_layer():
  """Output and every gradient in float64; its matrix is ours transposed."""
  there = recorded("sltrain")
  rows, columns = np.divmod(there["sparse_index"], 7)
  flat = columns * 5 + rows
  order = np.argsort(flat)
  scale = 3 / 2
  with jax.enable_x64(True):
    factors = sparse_low_rank.Factors(
      jnp.asarray(there["lora_A"].T),
      jnp.asarray(there["lora_B"].T),
      jnp.asarray(there["sparse_value"][order]),
      jnp.asarray(flat[order], jnp.int32),
    )

    def run(x, a, b, values):
      own = sparse_low_rank.Factors(a, b, values, factors.support_n)
      y = sparse_low_rank.apply(x, own, (7, 5), scale, jnp.float64)
      return y + there["bias"]

    y, pull = jax.vjp(run, jnp.asarray(there["x"]), *factors[:3])
    dx, da, db, dvalues = pull(jnp.asarray(there["dy"]))
  for ours, theirs in (
    (y, there["y"]),
    (dx, there["dx"]),
    (da, there["dlora_A"].T),
    (db, there["dlora_B"].T),
    (dvalues, there["dsparse_value"][order]),
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)


def test_relora_is_the_official_layer():
  there = recorded("relora")
  with jax.enable_x64(True):
    layer = lora.LowRankUpdate(
      7,
      5,
      rank=2,
      alpha=3.0,
      use_bias=False,
      kernel_init=nnx.initializers.zeros,
      dtype=jnp.float64,
      rngs=nnx.Rngs(0),
    )
    layer.frozen_kernel.set_value(jnp.asarray(there["weight"].T))
    layer.lora_a.set_value(jnp.asarray(there["lora_A"].T))
    layer.lora_b.set_value(jnp.asarray(there["lora_B"].T))
    structure, variables = nn_variables.split(layer)

    def run(x, params):
      return nn_variables.merge(structure, {**variables, "params": params})(x)

    y, pull = jax.vjp(run, jnp.asarray(there["x"]), variables["params"])
    dx, gradients = pull(jnp.asarray(there["dy"]))
    layer.restart(jax.random.key(0))
  for ours, theirs in (
    (y, there["y"]),
    (dx, there["dx"]),
    (gradients["lora_a"], there["dlora_A"].T),
    (gradients["lora_b"], there["dlora_B"].T),
    (layer.frozen_kernel[...], there["merged"].T),
    (layer.lora_b[...], there["merged_B"].T),
  ):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
  # Both draw A within 1/sqrt(inputs).
  largest = np.abs(layer.lora_a[...]).max() * np.sqrt(7)
  assert max(largest, there["largest_A"]) <= 1


def test_sltrain_starts_as_the_paper_says():
  """W is S; the output's deviation is sqrt(density / 3)."""
  layer = layer_of("sltrain(rank=8, density=0.03)", 512, 384)
  values, support = layer.sparse_values[...], np.asarray(layer.support[...])
  assert support.dtype == np.int32
  assert len(values) == len(support) == int(0.03 * 512 * 384)
  assert (np.diff(support) > 0).all()
  assert support[0] >= 0
  assert support[-1] < 512 * 384
  w = np.zeros(512 * 384, np.float32)
  w[support] = values
  np.testing.assert_array_equal(layer.matrix(), w.reshape(512, 384))
  bound = 1 / np.sqrt(512)
  assert np.abs(values).max() <= bound
  assert np.abs(layer.lora_a[...]).max() <= bound
  x = np.random.default_rng(0).normal(size=(256, 512))
  deviation = np.std(x @ w.reshape(512, 384))
  # Of 5898 squares of relative deviation 2/sqrt(5): 1.2 % of the variance.
  np.testing.assert_allclose(deviation, np.sqrt(0.03 / 3), rtol=0.03)


@pytest.mark.parametrize(
  "spec", ["low_rank(rank=3, alpha=6.0)", "sltrain(rank=3, density=0, alpha=6)"]
)
def test_a_product_starts_nearest_to_the_dense_matrix(spec):
  dense = layer_of("dense").kernel[...]
  u, s, vt = np.linalg.svd(np.asarray(dense, np.float64), full_matrices=False)
  nearest = (u[:, :3] * s[:3]) @ vt[:3]
  layer = layer_of(spec)
  # Products of 3, of factors that float32's singular vectors give.
  np.testing.assert_allclose(layer.matrix(), nearest, atol=32 * s[0] * 2**-24)
  # The factors share the size.
  np.testing.assert_allclose(
    jnp.linalg.norm(layer.lora_a[...], axis=0),
    jnp.linalg.norm(layer.lora_b[...], axis=1),
    rtol=1e-5,
  )


@pytest.mark.parametrize("spec", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kernel_init", ["normal", "zeros"])
def test_no_matrix_starts_where_no_gradient_moves_it(spec, kernel_init):
  """Two in a row, as value and out, gate and down: each must move in time."""
  init = {
    "normal": nnx.initializers.normal(0.1),
    "zeros": nnx.initializers.zeros,
  }
  rngs = nnx.Rngs(0)
  first, second = (
    linear.resolve(spec).make(
      inputs,
      outputs,
      use_bias=False,
      kernel_init=start,
      dtype=jnp.float32,
      rngs=rngs,
    )
    for inputs, outputs, start in (
      (7, 6, init["normal"]),
      (6, 5, init[kernel_init]),
    )
  )
  x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 7)), jnp.float32)
  graph, params, rest = nnx.split((first, second), nnx.Param, ...)
  at_first = params

  @jax.jit
  def gradients(params):
    def loss(params):
      one, two = nnx.merge(graph, params, rest)
      return jnp.mean((two(jnp.tanh(one(x))) - 1.0) ** 2)

    return jax.grad(loss)(params)

  for _ in range(4):
    params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients(params))
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), at_first, params)
  assert all(jax.tree.leaves(moved))


def test_supports_are_of_the_seed_and_of_the_layer():
  one, same, other = (
    np.asarray(layer_of(WAYS["sltrain"], 40, 30, seed).support[...])
    for seed in (0, 0, 1)
  )
  np.testing.assert_array_equal(one, same)
  assert (one != other).any()
  model = models.make("llama", linear=WAYS["sltrain"], rngs=nnx.Rngs(0))
  query, value = (
    np.asarray(getattr(model.layers[0].attention, name).support[...])
    for name in ("query", "value")
  )
  assert (query != value).any()


def test_support_is_uniform():
  """Each entry is as likely as any other: 64 draws of 6 of 12."""
  keys = jax.random.split(jax.random.key(0), 64)
  drawn = jax.vmap(lambda k: sparse_low_rank.draw_support(k, 3, 4, 6))(keys)
  counts = np.bincount(np.ravel(drawn), minlength=12)
  # Deviation of a count: 4; five of them.
  assert np.abs(counts - 32).max() <= 20


@pytest.mark.parametrize("spec", [*WAYS.values(), "sltrain(rank=0)"])
def test_a_layer_is_its_matrix(spec):
  """Output and gradients are those of the dense expression."""
  layer = filled(layer_of(spec, (3, 4), (5, 2)))
  structure, variables = nn_variables.split(layer)
  x = jax.random.normal(jax.random.key(0), (2, 6, 3, 4))

  def by_layer(params, x):
    own = {**variables, "params": params}
    return jnp.sum(jnp.sin(nn_variables.merge(structure, own)(x)))

  def by_matrix(params, x):
    own = nn_variables.merge(structure, {**variables, "params": params})
    y = x.reshape(12, 12) @ own.matrix() + own.bias[...]
    return jnp.sum(jnp.sin(y))

  actual, expected = (
    jax.value_and_grad(f, (0, 1))(variables["params"], x)
    for f in (by_layer, by_matrix)
  )
  # Sums of 12 products of numbers near 1, in another order.
  jax.tree.map(
    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4),
    actual,
    expected,
  )


def test_the_backward_pass_keeps_no_matrix():
  """Residuals are x, A, B, S and the support, under jit as well."""
  layer = layer_of("sltrain(rank=3, density=0.05)", 64, 48)
  structure, variables = nn_variables.split(layer)
  x = jnp.ones((10, 64))

  def run(params, x):
    return nn_variables.merge(structure, {**variables, "params": params})(x)

  _, pull = jax.vjp(run, variables["params"], x)
  kept = sum(leaf.size for leaf in jax.tree.leaves(pull))
  parts = sum(
    leaf.size for leaf in jax.tree.leaves((variables, x)) if leaf.size < 3000
  )
  assert kept <= parts + 48
  text = str(
    jax.make_jaxpr(jax.grad(lambda p, x: run(p, x).sum()))(
      variables["params"], x
    )
  )
  # What XLA would otherwise share between the two passes.
  assert "optimization_barrier" in text or "prevent_cse=True" in text


def test_forward_mode_agrees():
  """A directional derivative of the layer is that of its matrix."""
  layer = filled(layer_of(WAYS["sltrain"]))
  x = jax.random.normal(jax.random.key(0), (4, 7))
  tangent = jax.random.normal(jax.random.key(1), (4, 7))
  actual = jax.jvp(layer, (x,), (tangent,))[1]
  np.testing.assert_allclose(
    actual, tangent @ layer.matrix(), rtol=1e-5, atol=1e-5
  )


def test_bytes_are_as_counted():
  """LLaMA of 60M with SLTrain: the counts that follow from its shapes.

  A matrix (i, o) has r (i + o) + floor(delta i o) parameters and as many
  positions of four bytes; 58.1M become 43.5M.
  """

  def shapes(spec):
    model = nnx.eval_shape(
      lambda: models.make(
        "llama", size="60m", vocab_size=32000, linear=spec, rngs=nnx.Rngs(0)
      )
    )
    return nn_variables.split(model)[1]

  def counted(spec, delta, rank):
    found = shapes(spec)
    matrices = 8 * ([(512, 512)] * 4 + [(512, 1376)] * 2 + [(1376, 512)])
    positions = sum(int(delta * i * o) for i, o in matrices)
    dense = 2 * 32000 * 512 + 17 * 512
    expected = dense + positions + sum(rank * (i + o) for i, o in matrices)
    params = sum(leaf.size for leaf in jax.tree.leaves(found["params"]))
    assert params == expected
    assert optim.state_bytes(found["stats"]) == 4 * positions
    return params

  assert round(counted("sltrain(rank=128, density=0.03)", 0.03, 128) / 1e5) == (
    435
  )
  counted("low_rank(rank=128)", 0, 128)
  dense = sum(leaf.size for leaf in jax.tree.leaves(shapes("dense")["params"]))
  assert round(dense / 1e5) == 581
  lora = shapes("lora(rank=128)")
  assert optim.state_bytes(lora["stats"]) == 4 * (
    dense - 2 * 32000 * 512 - 17 * 512
  )


def test_what_no_matrix_method_takes():
  """Muon moves A and B each as a matrix, and S by its fallback."""
  model = models.make("llama", linear=WAYS["sltrain"], rngs=nnx.Rngs(0))
  roles = model_roles.of(model)
  params = nn_variables.split(model)[1]["params"]
  moved = optim.describe("muon", params, dims=roles.dims)
  query = "layers/0/attention/query"
  assert moved[f"{query}/sparse_values"] == "adamw (fallback)"
  assert moved[f"{query}/lora_a"].startswith("muon")
  decays = roles.decay_mask(params)["layers"]["0"]["attention"]["query"]
  assert decays == {"lora_a": True, "lora_b": True, "sparse_values": True}


def test_lora_starts_as_the_dense_model():
  """The same kernels, and nothing added to them."""
  tokens = jnp.arange(12).reshape(2, 6)
  dense, low = (
    models.make("gpt2", linear=spec, rngs=nnx.Rngs(0))
    for spec in ("dense", WAYS["lora"])
  )
  np.testing.assert_allclose(dense(tokens), low(tokens), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("sltrain(density=1.5)", "density=1.5; allowed"),
    ("sltrain(density=-0.1)", "density=-0.1; allowed"),
    ("sltrain(rank=65)", "rank=65; allowed: at most 64.*\\(64, 64\\)"),
    ("sltrain(rank=0, density=0.0)", "density=0.0; allowed"),
    (
      "sltrain(rank=4, density=1e-9)",
      "density=1e-09; allowed: an entry or more",
    ),
    ("sltrain(rank=2.5)", "rank=2.5; allowed: an int"),
    ("sltrain(alpha=0.0)", "alpha=0.0; allowed"),
    ("low_rank(rank=0)", "rank=0; allowed"),
    ("relora(restart_every=0)", "restart_every=0; allowed"),
    ("relora(restart_every=2147483648)", "restart_every=.*<= 2147483647"),
    ("relora(restart_every=4, adjust_steps=4)", "below restart_every=4"),
    ("relora(reset='zero')", "reset='zero'"),
    ("relora(prune_ratio=1.0)", "prune_ratio=1.0"),
    ("slrtain", "sltrain"),
    ("sltrain(sparsity=0.1)", "sparsity"),
  ],
)
def test_bad_options(spec, message):
  with pytest.raises(errors.UserError, match=message):
    models.make("llama", linear=spec, rngs=nnx.Rngs(0))
