"""normjax.adapt against the official codes, as `record.py` has them."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from normjax import adapt, norms
from normjax.adapt import memory
from normjax.nn.norm_layer import NormLayer
from tests.adapt.official import inputs

FOLDER = pathlib.Path(__file__).parent
# Sums of a few hundred products in float64.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
MARGIN = 0.42


class Block(nnx.Module):
  """A convolution and its norm."""

  def __init__(self, given, name, norm):
    kernel = np.moveaxis(given[f"{name}.0.weight"], (0, 1), (3, 2))
    outputs = kernel.shape[-1]
    self.conv = nnx.Conv(
      kernel.shape[-2], outputs, (3, 3), param_dtype=float, rngs=nnx.Rngs(0)
    )
    self.conv.kernel[...] = jnp.asarray(kernel)
    self.conv.bias[...] = jnp.asarray(given[f"{name}.0.bias"])
    self.norm = NormLayer(norm, (outputs,))
    for ours, theirs in OURS.items():
      variable = type(getattr(self.norm, ours))
      value = jnp.asarray(given[f"{name}.1.{theirs}"])
      setattr(self.norm, ours, variable(value))

  def __call__(self, x, *, train):
    return nnx.relu(self.norm(self.conv(x), train=train))


OURS = {
  "scale": "weight",
  "bias": "bias",
  "mean": "running_mean",
  "var": "running_var",
}
# Of UnMix-TNS.
COMPONENTS = {"means": "running_means_mat", "variances": "running_vars_mat"}


class Net(nnx.Module):
  """The network of `record.py`, channels last."""

  def __init__(self, norm="batch_norm"):
    given = inputs.variables()
    self.layers = nnx.List(
      [Block(given, name, norm) for name in ("layer1", "layer4")]
    )
    self.head = nnx.Linear(
      inputs.WIDTHS[-1],
      inputs.CLASSES,
      param_dtype=float,
      rngs=nnx.Rngs(0),
    )
    self.head.kernel[...] = jnp.asarray(given["fc.weight"].T)
    self.head.bias[...] = jnp.asarray(given["fc.bias"])

  def __call__(self, x, *, train=False):
    for layer in self.layers:
      x = layer(x, train=train)
    return self.head(jnp.mean(x, axis=(1, 2)))


def batches(steps):
  return jnp.stack([np.moveaxis(inputs.batch(s), 1, -1) for s in steps])


def same_noise(key, shape, dtype):
  """What `record.py` gives for the draws of the two layers, in their order."""
  layer = {inputs.WIDTHS[1]: 0, inputs.WIDTHS[2]: 1}[shape[-1]]
  return jnp.asarray(inputs.noise(layer, shape), dtype)


SGD = {"learning_rate": 0.05, "optimizer": "sgd"}
EATA = {
  **SGD,
  "entropy_margin": MARGIN,
  "similarity_margin": 0.9,
  "fisher_weight": 2.0,
}
SAR = {**SGD, "entropy_margin": MARGIN}
CASES = {
  "norm": ("batch", {}),
  "tent": ("tent", {"learning_rate": 0.01}),
  "tent_two_steps": ("tent", {"learning_rate": 0.01, "steps": 2}),
  "tent_sgd": ("tent", SGD),
  "eata": ("eata", EATA),
  "eta": ("eata", EATA),
  "sar": ("sar", SAR),
  "sar_reset": ("sar", {**SAR, "reset_below": 0.4385}),
  "alpha_bn": ("alpha_bn", {"test_weight": 0.1}),
  "ema": ("ema", {}),
  "unmix_tns": ("unmix_tns", {"components": 4, "batch_size_max": 8}),
  "lame_rbf": ("lame", {"neighbours": 3}),
  "lame_knn": ("lame", {"affinity": "knn", "neighbours": 3}),
  "lame_linear": ("lame", {"affinity": "linear"}),
}


@pytest.mark.parametrize("case", CASES)
def test_official(case, monkeypatch):
  name, options = CASES[case]
  recorded = np.load(FOLDER / f"{case}.npz")
  with jax.enable_x64(True):
    if case == "eata":
      options = {**options, "fisher_data": batches((8, 9))}
    adapter = adapt.make(name, Net(), **options)
    monkeypatch.setattr(jax.random, "normal", same_noise)
    state = adapter.init(jax.random.key(0))
    state, logits = jax.jit(
      lambda state, x: jax.lax.scan(
        lambda state, x: adapter.step(state, x)[::-1], state, x
      )
    )(state, batches(range(inputs.STEPS)))
  if "probabilities" in recorded and "logits" not in recorded:
    logits = np.exp(logits)
    np.testing.assert_allclose(logits, recorded["probabilities"], **CLOSE)
    return
  np.testing.assert_allclose(logits, recorded["logits"], **CLOSE)
  checked = _check_state(state.variables, recorded)
  assert checked or case == "alpha_bn"
  if name == "eata":
    own = state.own
    np.testing.assert_allclose(
      own.probabilities, recorded["probabilities"], **CLOSE
    )
    assert [own.num_reliable, own.num_used] == list(recorded["counts"])
  if name == "sar":
    np.testing.assert_allclose(state.own.average, recorded["average"], **CLOSE)
    assert bool(state.own.num_resets) == (case == "sar_reset")


def _check_state(variables, recorded):
  """How many arrays of the norms were compared."""
  checked = 0
  for place, theirs in enumerate(("layer1", "layer4")):
    names = {**OURS, **COMPONENTS}
    for collection in ("params", "stats"):
      held = variables[collection]["layers"][str(place)]["norm"]
      for ours, value in held.items():
        key = f"{theirs}.1.{names.get(ours)}"
        if key in recorded:
          np.testing.assert_allclose(value, recorded[key], **CLOSE)
          checked += 1
  return checked


def test_official_iabn():
  recorded = np.load(FOLDER / "iabn.npz")
  width = inputs.WIDTHS[0]
  with jax.enable_x64(True):
    norm = norms.make("iabn", threshold=1.5)
    variables = norm.init((width,), float)
    scale, bias = map(jnp.asarray, inputs.uniform(7, (2, width), 0.5, 1.5))
    params = {"scale": scale, "bias": bias}
    stats = {k: v.astype(float) for k, v in variables["stats"].items()}
    shape = (inputs.BATCH, width, inputs.SIDE, inputs.SIDE)
    weights = jnp.asarray(np.moveaxis(inputs.uniform(9, shape), 1, -1))
    for step, x in enumerate(batches(range(inputs.STEPS))):
      y, pull, stats = jax.vjp(
        lambda params, x, stats=stats: norm.apply(
          {"params": params, "stats": stats}, x
        ),
        params,
        x,
        has_aux=True,
      )
      dparams, dx = pull(weights)
      found = {"y": y, "dx": dx}
      for name, value in found.items():
        value = np.moveaxis(value, -1, 1)
        np.testing.assert_allclose(value, recorded[name][step], **CLOSE)
      for name in ("scale", "bias"):
        theirs = recorded[f"d{name}"][step]
        np.testing.assert_allclose(dparams[name], theirs, **CLOSE)
    for name in ("mean", "var"):
      np.testing.assert_allclose(stats[name], recorded[name], **CLOSE)
    y, _ = norm.apply(
      {"params": params, "stats": stats}, batches((1,))[0], train=False
    )
  theirs = np.moveaxis(recorded["evaluated"], 1, -1)
  np.testing.assert_allclose(y, theirs, **CLOSE)


def test_official_memory():
  recorded = np.load(FOLDER / "note_memory.npz")
  count, capacity = 60, 8
  held = jax.jit(memory.add_all)(
    memory.empty(capacity, inputs.CLASSES, (), jnp.int32),
    jnp.arange(count),
    jnp.asarray(inputs.memory_labels(count)),
    jnp.asarray(inputs.memory_draws(count)),
  )
  found = sorted(zip(held.labels, held.examples, strict=True))
  # Theirs by class, ours by place: in each class the oldest comes first.
  expected = zip(recorded["labels"], recorded["numbers"], strict=True)
  assert found == sorted(expected)


def test_official_note(monkeypatch):
  recorded = np.load(FOLDER / "note.npz")
  draws = inputs.memory_draws(inputs.STEPS * inputs.BATCH)
  drawn = []
  monkeypatch.setattr(memory, "draw", lambda *_: drawn.pop())
  with jax.enable_x64(True):
    adapter = adapt.make(
      "note",
      Net(norms.make("iabn", threshold=1.0)),
      input_shape=(inputs.SIDE, inputs.SIDE, inputs.WIDTHS[0]),
      learning_rate=0.01,
      statistics_momentum=0.9,
      capacity=4,
      update_every=inputs.BATCH,
    )

    def step(state, given):
      x, draws = given
      drawn.append(draws)
      return adapter.step(state, x)[::-1]

    given = (
      batches(range(inputs.STEPS)),
      jnp.asarray(draws.reshape(inputs.STEPS, inputs.BATCH, 3)),
    )
    state, logits = jax.jit(lambda s, g: jax.lax.scan(step, s, g))(
      adapter.init(), given
    )
  np.testing.assert_allclose(logits, recorded["logits"], **CLOSE)
  assert _check_state(state.variables, recorded) == 8
