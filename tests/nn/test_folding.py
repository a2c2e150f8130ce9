"""Eval, Tune and Deploy of arXiv:2305.11624 on one convolution or matrix."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors, norms
from normjax.nn import folding
from normjax.nn.conv import convolve
from tests.nn import references_folding as reference

EPS = 1e-3
# Sums of some 300 products in float64, in another order, then a handful of
# roundings: 300 x 2^-53 is 3e-14, and 1e-12 of the largest entry leaves room
# for cancellation in the smaller ones.
RTOL = 1e-12

# Stride, groups, whether the convolution has a bias and the norm parameters.
CASES = {
  "plain": (1, 1, False, True),
  "bias": (1, 1, True, True),
  "strided": (2, 1, True, True),
  "grouped": (1, 2, True, True),
  "depthwise": (2, 4, False, True),
  "no parameters": (1, 1, True, False),
}


def draw(groups=1, bias=True, affine=True, outputs=8, inputs=4):
  """x, and what is trained or held, float64."""
  rng = np.random.default_rng(0)
  trained = {
    "kernel": rng.normal(size=(3, 3, inputs // groups, outputs)),
  }
  if bias:
    trained["bias"] = rng.normal(size=outputs)
  if affine:
    trained["scale"] = rng.normal(size=outputs)
    trained["offset"] = rng.normal(size=outputs)
  stats = {
    "mean": rng.normal(size=outputs),
    "var": rng.uniform(0.01, 100.0, size=outputs),
  }
  return rng.normal(size=(2, 6, 6, inputs)), trained, stats


def variables(trained, stats):
  params = {"scale": trained.get("scale"), "bias": trained.get("offset")}
  return {
    "params": {k: v for k, v in params.items() if v is not None},
    "stats": stats,
  }


def evaluate(linear, norm, stats, x, trained):
  """Eval mode as the definition says it: one after the other."""
  y = linear(x, trained["kernel"])
  if "bias" in trained:
    y = y + trained["bias"]
  return norm.apply(variables(trained, stats), y, train=False)[0]


def tune(linear, norm, stats, x, trained):
  """Tune mode."""
  kernel, bias = folding.fold(
    trained["kernel"], trained.get("bias"), norm, variables(trained, stats)
  )
  return linear(x, kernel) + bias


MODES = {"eval": evaluate, "tune": tune}


def assert_near(actual, wanted):
  wanted = np.asarray(wanted)
  np.testing.assert_allclose(
    actual, wanted, rtol=0, atol=RTOL * np.abs(wanted).max()
  )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("case", CASES)
def test_modes_are_the_papers_formulas(case, mode):
  stride, groups, bias, affine = CASES[case]
  x, trained, stats = draw(groups, bias, affine)
  linear = functools.partial(convolve, stride=stride, groups=groups)
  dz = np.random.default_rng(1).normal(size=(2, 6 // stride, 6 // stride, 8))
  zeros, ones = np.zeros(8), np.ones(8)
  z, gradients = reference.eval_mode(
    x,
    trained["kernel"],
    trained.get("bias", zeros),
    trained.get("scale", ones),
    trained.get("offset", zeros),
    **stats,
    dz=dz,
    eps=EPS,
    stride=stride,
    groups=groups,
  )
  norm = norms.make("batch_norm", eps=EPS)
  with jax.enable_x64(True):
    held = jax.tree.map(jnp.asarray, (stats, x, trained))
    apply = functools.partial(MODES[mode], linear, norm, held[0])
    actual, pull = jax.vjp(apply, *held[1:])
    assert actual.dtype == jnp.float64
    dx, others = pull(jnp.asarray(dz))
  assert_near(actual, z)
  assert_near(dx, gradients["x"])
  assert others.keys() == trained.keys()
  for name, gradient in others.items():
    assert_near(gradient, gradients[name])


def test_evals_gradient_is_c_times_that_of_deploy():
  x, trained, stats = draw()
  norm = norms.make("batch_norm", eps=EPS)
  linear = functools.partial(convolve, stride=1, groups=1)
  c = trained["scale"] / np.sqrt(stats["var"] + EPS)
  with jax.enable_x64(True):
    stats, x, trained = jax.tree.map(jnp.asarray, (stats, x, trained))
    z, pull = jax.vjp(
      lambda kernel: evaluate(
        linear, norm, stats, x, {**trained, "kernel": kernel}
      ),
      trained["kernel"],
    )
    kernel, bias = folding.fold(
      trained["kernel"], trained["bias"], norm, variables(trained, stats)
    )
    deployed, deployed_pull = jax.vjp(
      lambda kernel: linear(x, kernel) + bias, kernel
    )
    dz = jnp.cos(jnp.arange(float(z.size))).reshape(z.shape)
    (dw,), (folded_dw,) = pull(dz), deployed_pull(dz)
  assert_near(deployed, z)
  # HWIO: the outputs are the last axis.
  assert_near(dw, c * np.asarray(folded_dw))


def test_a_matrix_absorbs_its_norm_too():
  rng = np.random.default_rng(2)
  _, trained, stats = draw()
  norm = norms.make("batch_norm", eps=EPS)
  with jax.enable_x64(True):
    trained["kernel"] = rng.normal(size=(5, 8))
    stats, trained = jax.tree.map(jnp.asarray, (stats, trained))
    x = jnp.asarray(rng.normal(size=(16, 5)))
    results = [
      jax.vjp(functools.partial(mode, jnp.matmul, norm, stats), x, trained)
      for mode in MODES.values()
    ]
    (z, pull), (tuned, tuned_pull) = results
    assert_near(tuned, z)
    jax.tree.map(assert_near, tuned_pull(jnp.cos(z)), pull(jnp.cos(z)))


def test_a_gain_of_zero_learns():
  x, trained, stats = draw()
  trained["scale"] = np.zeros(8)
  norm = norms.make("batch_norm", eps=EPS)
  with jax.enable_x64(True):
    stats, x, trained = jax.tree.map(jnp.asarray, (stats, x, trained))
    z, pull = jax.vjp(
      functools.partial(tune, convolve, norm, stats), x, trained
    )
    dx, others = pull(jnp.cos(jnp.arange(float(z.size))).reshape(z.shape))
  np.testing.assert_array_equal(z[0, 0, 0], trained["offset"])
  np.testing.assert_array_equal(dx, 0)
  np.testing.assert_array_equal(others["kernel"], 0)
  assert np.abs(others["scale"]).min() > 1e-3


@pytest.mark.parametrize(
  ("name", "options"),
  [
    ("batch_norm", {"virtual_batch_size": 2, "running_variance": "biased"}),
    ("batch_renorm", {}),
    ("unified_norm", {}),
    ("identity", {}),
  ],
)
def test_every_foldable_norm_folds(name, options):
  x, trained, _ = draw()
  norm = norms.make(name, **options)
  rng = np.random.default_rng(3)
  with jax.enable_x64(True):
    held = norm.init((8,), "float64")
    held = jax.tree.map(
      lambda leaf: (
        jnp.asarray(rng.uniform(0.5, 2.0, leaf.shape))
        if jnp.issubdtype(leaf.dtype, jnp.floating)
        else leaf
      ),
      held,
    )
    y = convolve(jnp.asarray(x), jnp.asarray(trained["kernel"]))
    want = norm.apply(held, y + trained["bias"], train=False)[0]
    kernel, bias = folding.fold(
      jnp.asarray(trained["kernel"]), jnp.asarray(trained["bias"]), norm, held
    )
    assert_near(convolve(jnp.asarray(x), kernel) + bias, want)
    # The gradient of a backward statistic is its new value: here the old one.
    kept = jax.grad(
      lambda grad_stats: jnp.sum(
        folding.fold(kernel, None, norm, {**held, "grad_stats": grad_stats})[1]
      )
    )(held["grad_stats"])
    jax.tree.map(np.testing.assert_array_equal, kept, held["grad_stats"])
  assert bool(held["grad_stats"]) == (name == "unified_norm")


def test_the_foldable_ones_are_listed():
  with pytest.raises(
    errors.UserError,
    match=(
      "fold folds the norm into the convolution before it, and group_norm is"
      " no affine map of a channel at evaluation. Norms that are: batch_norm,"
    ),
  ):
    folding.fold(
      jnp.ones((3, 3, 2, 4)), None, norms.make("group_norm", num_groups=2), {}
    )


def test_folding_is_in_float32():
  """A bfloat16 kernel meets c before anything is rounded to bfloat16."""
  _, trained, stats = draw()
  kernel = jnp.asarray(trained["kernel"], jnp.bfloat16)
  bias = jnp.asarray(trained["bias"], jnp.bfloat16)
  held = jax.tree.map(
    lambda leaf: jnp.asarray(leaf, jnp.float32), variables(trained, stats)
  )
  folded, shift = folding.fold(
    kernel, bias, norms.make("batch_norm", eps=EPS), held
  )
  assert folded.dtype == shift.dtype == jnp.float32
  c = trained["scale"] / np.sqrt(stats["var"] + EPS)
  # Rounded: the variance, its sum, the root, two products; offset: one more
  # product and two sums.
  rtol = 8 * 2**-24
  np.testing.assert_allclose(
    folded, c * np.asarray(kernel, np.float64), rtol=rtol
  )
  shifted = np.abs(c * stats["mean"]) + np.abs(trained["offset"])
  wanted = trained["offset"] + c * (
    np.asarray(bias, np.float64) - stats["mean"]
  )
  room = shifted + np.abs(c * trained["bias"])
  assert (np.abs(shift - wanted) <= rtol * room).all()


def trajectory(mode, learning_rate, steps):
  """Losses of gradient descent on a regression, c from 0.01 to 0.1."""
  x, trained, stats = draw()
  stats["var"] = np.geomspace(100.0, 1e4, 8)
  trained["scale"] = np.ones(8)
  norm = norms.make("batch_norm", eps=EPS)
  with jax.enable_x64(True):
    stats, x, trained = jax.tree.map(jnp.asarray, (stats, x, trained))
    x = 2 * x
    apply = functools.partial(evaluate, convolve, norm, stats, x)
    target = apply({**trained, "kernel": jnp.sin(7 * trained["kernel"])})
    if mode == "tune":
      apply = functools.partial(tune, convolve, norm, stats, x)
    if mode == "deploy":
      kernel, bias = folding.fold(
        trained["kernel"], trained["bias"], norm, variables(trained, stats)
      )
      trained = {"kernel": kernel, "bias": bias}

      def apply(trained):
        return convolve(x, trained["kernel"]) + trained["bias"]

    @jax.jit
    def step(trained):
      loss, gradient = jax.value_and_grad(
        lambda trained: jnp.mean(jnp.square(apply(trained) - target))
      )(trained)
      return loss, jax.tree.map(
        lambda leaf, slope: leaf - learning_rate * slope, trained, gradient
      )

    losses = []
    for _ in range(steps):
      loss, trained = step(trained)
      losses.append(float(loss))
  return np.array(losses)


def test_steps_of_eval_and_tune_are_the_same_where_deploy_leaves():
  """A step moves the folded kernel by c^2 of what deploy moves it by."""
  learning_rate, steps = 3.0, 8
  evaluated = trajectory("eval", learning_rate, steps)
  tuned = trajectory("tune", learning_rate, steps)
  # A step amplifies no rounding of the one before by more than two.
  np.testing.assert_allclose(tuned, evaluated, rtol=RTOL * 2**steps)
  assert evaluated[-1] < evaluated[0]
  deployed = trajectory("deploy", learning_rate, steps)
  np.testing.assert_allclose(deployed[0], evaluated[0], rtol=RTOL)
  assert deployed[-1] > 100 * deployed[0]
