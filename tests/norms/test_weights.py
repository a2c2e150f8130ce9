"""Norms of weights: the contract, and facts of each."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import errors
from normjax.norms import weights
from tests.contracts import weight_norm_contract as contract
from tests.norms import references_weights as references

VARIANTS = (
  "unbiased_std",
  "biased_std",
  "unbiased_variance",
  "biased_variance",
)


@dataclasses.dataclass(frozen=True)
class Case:
  weight_norm: weights.WeightNorm
  reference: Callable[..., Any]

  def __str__(self):
    options = "-".join(map(str, self.weight_norm.options.values()))
    return f"{self.weight_norm.name}-{options}"


def make(name, **options):
  return Case(weights.make(name, **options), getattr(references, name))


CASES = [
  # With an eps that shows; those of the codes are in a test of their own.
  *(make("weight_standardization", variant=name, eps=0.3) for name in VARIANTS),
  make("scaled_weight_standardization"),
  make("scaled_weight_standardization", variant="added", eps=0.3, factor=1.7),
  make("weight_norm"),
  make("spectral_norm"),
  make("spectral_norm", num_iterations=3, initial_iterations=2),
]


@pytest.mark.parametrize("case", CASES, ids=str)
class TestWeightNorm(contract.WeightNormContract):
  pass


def test_every_norm_is_tested():
  assert {case.weight_norm.name for case in CASES} == set(weights.names())


def apply(spec, kernel, train=True, **params):
  """The kernel in float64, with parameters other than the first."""
  weight_norm = weights.resolve(spec)
  with jax.enable_x64(True):
    kernel = jnp.asarray(kernel, jnp.float64)
    held = weight_norm.init(kernel)
    held["params"] |= params
    return np.asarray(weight_norm.apply(held, kernel, train=train)[0])


def vector_jacobian(spec, kernel, cotangent):
  """The kernel and the cotangents of parameters and kernel, float64."""
  weight_norm = weights.resolve(spec)
  with jax.enable_x64(True):
    kernel = jnp.asarray(kernel, jnp.float64)
    held = weight_norm.init(kernel)
    y, pull = jax.vjp(
      lambda params, kernel: weight_norm.apply(
        {**held, "params": params}, kernel
      )[0],
      held["params"],
      kernel,
    )
    return jax.tree.map(np.asarray, (y, *pull(jnp.asarray(cotangent))))


def draw(shape=(3, 3, 2, 4), seed=0, scale=1.0):
  return np.random.default_rng(seed).normal(0.3, scale, shape)


@pytest.mark.parametrize("fan_in", [(3, 3, 3), (3, 3, 64)])
def test_the_variances_differ_by_the_root_of_n_over_n_minus_one(fan_in):
  """1.9 % for a stem of 27 weights, 0.09 % for 576."""
  kernel = draw((*fan_in, 2))
  n = np.prod(fan_in)
  for kind in ("std", "variance"):
    biased, unbiased = (
      apply(
        f"weight_standardization(variant='{bias}_{kind}',eps=1e-30)", kernel
      )
      for bias in ("biased", "unbiased")
    )
    # Sums of n terms, as the contract says; the ratio of two such.
    np.testing.assert_allclose(
      biased / unbiased, np.sqrt(n / (n - 1)), rtol=16 * n * 2**-53
    )
  assert 100 * (np.sqrt(n / (n - 1)) - 1) == pytest.approx(
    {27: 1.9, 576: 0.09}[int(n)], rel=0.05
  )


def test_eps_of_each_definition():
  """A filter of +-s has std s: the four differ once eps counts."""
  s = 1e-3
  kernel = np.where(np.arange(8)[:, None] % 2, s, -s) * np.ones((8, 2))
  u = s * np.sqrt(8 / 7)
  expected = {
    "unbiased_std": s / (u + 1e-5),
    "biased_std": s / (s + 1e-5),
    "unbiased_variance": s / np.sqrt(u**2 + 1e-5),
    "biased_variance": s / np.sqrt(s**2 + 1e-6),
  }
  for variant, value in expected.items():
    y = apply(f"weight_standardization(variant='{variant}')", kernel)
    np.testing.assert_allclose(np.abs(y), value, rtol=64 * 2**-53)


def test_standardization_defaults_to_the_official_pytorch_layer():
  default = weights.make("weight_standardization")
  assert default.options == {"variant": "unbiased_std", "eps": 1e-5}
  scaled = weights.make("scaled_weight_standardization")
  assert scaled.options == {"variant": "floor", "eps": 1e-4, "factor": 1.0}


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_of_standardization_are_orthogonal(variant):
  """Its sum and its sum weighted by w vanish, the latter but for eps.

  By Euler, sum(w dw) = sum(g w') times eps / (std + eps), or
  eps / (var + eps).
  """
  kernel, g = draw(), draw(seed=1)
  spec = f"weight_standardization(variant='{variant}',eps=0.1)"
  y, _, gradient = vector_jacobian(spec, kernel, g)
  axes = (0, 1, 2)
  scale = np.abs(g).sum()
  np.testing.assert_allclose(
    gradient.sum(axes), 0, atol=kernel.size * 2**-53 * scale
  )
  ddof = 1 if variant.startswith("unbiased") else 0
  var = kernel.var(axes, ddof=ddof)
  rest = 0.1 / (np.sqrt(var) + 0.1)
  if variant.endswith("variance"):
    rest = 0.1 / (var + 0.1)
  np.testing.assert_allclose(
    (kernel * gradient).sum(axes),
    (g * y).sum(axes) * rest,
    rtol=0,
    atol=kernel.size * 2**-53 * scale * np.abs(kernel).max(),
  )


def test_standardization_of_a_large_mean():
  """Two passes: the mean is off by n u mean at most, and with it all of w'.

  One pass would lose (mean / std)^2 = 1e6 units.
  """
  kernel = np.float32(draw() + 1000)
  held = {"params": {}, "stats": {}}
  expected, _ = references.weight_standardization(
    held, np.float64(kernel), True, variant="unbiased_std", eps=1e-5
  )
  y, _ = weights.make("weight_standardization").apply(held, jnp.asarray(kernel))
  # Tree sums of 18 terms: five roundings, of numbers near 1000.
  np.testing.assert_allclose(y, expected, rtol=0, atol=16 * 2**-24 * 1000)


def test_scaled_standardization_has_a_floor():
  """A floor under n var, not something added: w' is exact above it."""
  n = 18
  for scale, divisor in ((1.0, None), (1e-4, 1e-2)):
    kernel = draw(scale=scale)
    y = apply("scaled_weight_standardization", kernel)
    centered = kernel - kernel.mean((0, 1, 2))
    root = np.sqrt(n * kernel.var((0, 1, 2)))
    root = root if divisor is None else divisor
    # NumPy's mean of 18 numbers near 0.3 is off by 18 units at most, and with
    # it all of w'; divided by the floor that is more than other roundings.
    mean_error = n * 2**-53 * np.abs(kernel).mean() / np.min(root)
    np.testing.assert_allclose(
      y,
      centered / root,
      rtol=0,
      atol=64 * 2**-53 * np.abs(y).max() + mean_error,
    )
  # Above the floor a filter has length 1, so that x of variance 1 gives y of
  # variance 1.
  y = apply("scaled_weight_standardization", draw())
  np.testing.assert_allclose((y**2).sum((0, 1, 2)), 1, rtol=64 * 2**-53)


def test_gains_multiply():
  kernel, gain = draw(), np.arange(1.0, 5.0)
  for variant in ("floor", "added"):
    spec = f"scaled_weight_standardization(variant='{variant}')"
    np.testing.assert_allclose(
      apply(spec, kernel, gain=gain),
      apply(spec, kernel) * gain,
      rtol=4 * 2**-53,
    )


def test_weight_norm_starts_as_the_kernel():
  kernel = draw()
  np.testing.assert_allclose(
    apply("weight_norm", kernel), kernel, rtol=64 * 2**-53
  )
  gain = weights.make("weight_norm").init(jnp.float32(kernel))["params"]["gain"]
  np.testing.assert_allclose(
    gain, np.sqrt((kernel**2).sum((0, 1, 2))), rtol=64 * 2**-24
  )


def test_weight_norms_gradients():
  """arXiv:1602.07868, equation 3; that of v is orthogonal to v."""
  kernel, dw = draw(), draw(seed=1)
  axes = (0, 1, 2)
  _, dparams, dv = vector_jacobian("weight_norm", kernel, dw)
  length = np.sqrt((kernel**2).sum(axes))
  dg = (dw * kernel).sum(axes) / length
  g = length  # As it starts.
  expected = g / length * dw - g * dg / length**2 * kernel
  limit = 8 * kernel.size * 2**-53 * np.abs(dw).max()
  np.testing.assert_allclose(dparams["gain"], dg, rtol=0, atol=limit)
  np.testing.assert_allclose(dv, expected, rtol=0, atol=limit)
  np.testing.assert_allclose(
    (dv * kernel).sum(axes), 0, atol=limit * np.abs(kernel).sum(axes).max()
  )


def spectral_steps(kernel, steps, **options):
  """The statistics and the kernel after so many training steps, float64."""
  weight_norm = weights.make("spectral_norm", **options)
  with jax.enable_x64(True):
    kernel = jnp.asarray(kernel)
    held, y = weight_norm.init(kernel), kernel
    step = jax.jit(weight_norm.apply)
    for _ in range(steps):
      y, stats = step(held, kernel)
      held = {**held, "stats": stats}
    return jax.tree.map(np.asarray, (held["stats"], y))


def singular_kernel(shape, values):
  """A kernel whose matrix (o, i y x) has these singular values."""
  rng = np.random.default_rng(0)
  rows, columns = shape[-1], int(np.prod(shape[:-1]))
  left = np.linalg.qr(rng.normal(size=(rows, rows)))[0]
  right = np.linalg.qr(rng.normal(size=(columns, columns)))[0]
  matrix = left * values @ right[: len(values)]
  return matrix.T.reshape(shape)


@pytest.mark.parametrize("shape", [(6, 4), (3, 3, 2, 4)], ids=str)
def test_spectral_norm_finds_the_largest_singular_value(shape):
  """Its error falls by (s2 / s1)^2 = 1/9 per step: nothing is left after 40."""
  kernel = singular_kernel(shape, [3.0, 1.0, 0.5, 0.1])
  _, y = spectral_steps(kernel, 40)
  np.testing.assert_allclose(y, kernel / 3, rtol=0, atol=64 * 2**-53)
  matrix = np.moveaxis(y, (-1, -2), (0, 1)).reshape(shape[-1], -1)
  np.testing.assert_allclose(
    np.linalg.norm(matrix, 2), 1, rtol=kernel.size * 2**-53
  )


def test_the_first_sigma_is_too_small():
  kernel = singular_kernel((6, 4), [3.0, 1.0, 0.5, 0.1])
  norms = [
    np.linalg.norm(spectral_steps(kernel, 1, initial_iterations=count)[1], 2)
    for count in (0, 15)
  ]
  # After 16 steps the error is (1/9)^16 at most times that of the start.
  assert norms[0] > 1 + 1e-6
  np.testing.assert_allclose(norms[1], 1, atol=1e-12)


def test_iterations_are_counted():
  """Three at once are three steps; those of the start come before."""
  kernel = draw()
  expected = spectral_steps(kernel, 3)
  at_once = spectral_steps(kernel, 1, num_iterations=3)
  early = spectral_steps(kernel, 1, initial_iterations=2)
  for other in (at_once, early):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-14),
      other,
      expected,
    )


def test_spectral_norms_gradient():
  """As the paper's analysis has it, u and v being constants."""
  kernel, g = draw(), draw(seed=1)
  y, _, gradient = vector_jacobian("spectral_norm", kernel, g)
  stats, _ = spectral_steps(kernel, 1)
  outer = np.multiply.outer(stats["v"], stats["u"]).reshape(kernel.shape)
  sigma = (kernel * outer).sum()
  expected = (g - (g * y).sum() * outer) / sigma
  np.testing.assert_allclose(
    gradient, expected, rtol=0, atol=8 * kernel.size * 2**-53 * np.abs(g).max()
  )


def test_evaluation_has_the_statistics_of_the_last_step():
  """The v of the step before the update too: sigma = u^T W v with both."""
  kernel = draw()
  weight_norm = weights.make("spectral_norm")
  stats, _ = spectral_steps(kernel, 2)
  moved = kernel + draw(seed=1, scale=0.2)
  outer = np.multiply.outer(stats["v"], stats["u"]).reshape(kernel.shape)
  with jax.enable_x64(True):
    y, after = weight_norm.apply(
      {"stats": stats}, jnp.asarray(moved), train=False
    )
  np.testing.assert_allclose(
    y, moved / (moved * outer).sum(), rtol=8 * kernel.size * 2**-53
  )
  assert after is stats


def test_a_kernel_of_zeros_leaves_u():
  """As the last layer of a branch may start: it must find its way later."""
  weight_norm = weights.make("spectral_norm")
  zeros = jnp.zeros((6, 4))
  held = weight_norm.init(zeros)
  y, stats = weight_norm.apply(held, zeros)
  np.testing.assert_array_equal(y, 0)
  np.testing.assert_array_equal(stats["u"], held["stats"]["u"])
  kernel = jnp.float32(singular_kernel((6, 4), [3.0, 1.0, 0.5, 0.1]))
  for _ in range(20):
    y, stats = weight_norm.apply({"stats": stats}, kernel)
  np.testing.assert_allclose(y, kernel / 3, atol=64 * 2**-24)


def test_draws_follow_the_key():
  weight_norm, kernel = weights.make("spectral_norm"), jnp.ones((6, 4))
  first, again, other = (
    weight_norm.init(kernel, jax.random.key(seed))["stats"]["u"]
    for seed in (1, 1, 2)
  )
  np.testing.assert_array_equal(first, again)
  assert np.abs(first - other).max() > 1e-3


def test_filters_of_one_weight_are_refused():
  for name in ("weight_standardization", "scaled_weight_standardization"):
    with pytest.raises(errors.UserError, match="at least 2 weights in a filt"):
      weights.make(name).init(jnp.ones((1, 1, 1, 8)))
  for name in ("weight_norm", "spectral_norm"):
    weights.make(name).init(jnp.ones((1, 1, 1, 8)))


def test_specs():
  norm = weights.resolve("weight_standardization(eps=0.5)")
  assert norm.options["eps"] == 0.5
  assert weights.resolve({"name": "weight_standardization", "eps": 0.5}) == norm
  assert weights.resolve(norm) is norm


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("weight_nrm", "unknown weight norm 'weight_nrm'. Did you mean 'weight_n"),
    ({"eps": 1}, "lacks 'name'"),
    ("weight_norm(eps=1)", "weight norm 'weight_norm' has no option 'eps'"),
    ("weight_standardization(eps=0)", "eps=0; allowed: a finite number > 0"),
    (
      "weight_standardization(variant='timm')",
      "allowed: 'unbiased_std', 'biased_std'",
    ),
    (
      "scaled_weight_standardization(variant='std')",
      "variant='std'; allowed: 'floor', 'added'",
    ),
    ("scaled_weight_standardization(eps=-1.0)", "eps=-1.0; allowed: a finite"),
    ("spectral_norm(num_iterations=0)", "num_iterations=0; allowed: an int"),
    (
      "spectral_norm(initial_iterations=-1)",
      "=-1; allowed: an int >= 0",
    ),
    ("spectral_norm(eps=0.0)", "spectral_norm: eps=0.0; allowed"),
  ],
)
def test_bad_specs_are_named(spec, message):
  with pytest.raises(errors.UserError, match=message):
    weights.resolve(spec)


def test_another_type_is_named():
  with pytest.raises(TypeError, match="given as a name or as a mapping"):
    weights.resolve(3)
