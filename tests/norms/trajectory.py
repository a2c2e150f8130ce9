"""Many steps of a norm with backward statistics: compiled, and in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np

from normjax import norms


def start(norm, scale, bias):
  """Float64 NumPy variables with these parameters; counters are int32."""
  variables = jax.tree.map(
    lambda leaf: np.asarray(leaf, None if leaf.dtype == np.int32 else float),
    norm.init((len(scale),)),
  )
  return {**variables, "params": {"scale": scale, "bias": bias}}


def compiled(norm, variables, xs, dys, mask=None):
  """Every step's results in float64, stacked; and y of evaluation after them.

  Args:
    norm: with "grad_stats".
    variables: from `start`; the parameters stay.
    xs: (steps, …), the inputs.
    dys: (steps, …), the gradients of the outputs.
    mask: of every input.

  Returns:
    ({"y", "dx", "dparams", "stats", "grad_stats"}, evaluation of xs[0]).
  """

  def step(carry, given):
    stats, grad_stats = carry
    x, dy = given

    def apply(params, grad_stats, x):
      held = {"params": params, "stats": stats, "grad_stats": grad_stats}
      return norm.apply(held, x, mask=mask)

    y, pull, stats = jax.vjp(
      apply, variables["params"], grad_stats, x, has_aux=True
    )
    dparams, grad_stats, dx = pull(dy)
    seen = {"y": y, "dx": dx, "dparams": dparams}
    seen |= {"stats": stats, "grad_stats": grad_stats}
    return (stats, grad_stats), seen

  with jax.enable_x64(True):
    first = (variables["stats"], variables["grad_stats"])
    first = jax.tree.map(jnp.asarray, first)
    (stats, grad_stats), seen = jax.jit(
      lambda given: jax.lax.scan(step, first, given)
    )((jnp.asarray(xs), jnp.asarray(dys)))
    last = {**variables, "stats": stats, "grad_stats": grad_stats}
    y, _ = norm.apply(last, jnp.asarray(xs[0]), train=False, mask=mask)
    seen, y = jax.tree.map(np.asarray, (seen, y))
    return {**seen, "y": _real(norm, seen["y"], mask)}, _real(norm, y, mask)


def _real(norm, y, mask):
  """Zeros where y means nothing."""
  if mask is None or norm.traits.padding_in_gradient:
    return y
  return y * np.asarray(mask)[..., None]


def in_numpy(norm, forward, backward, variables, xs, dys, mask=None):
  """As `compiled`, by the references of `tests.norms.references_power`."""
  variables, seen = dict(variables), []
  options = {**norm.options, "mask": mask}
  for x, dy in zip(xs, dys, strict=True):
    gradients = backward(variables, x, dy, **options)
    y, stats = forward(
      variables["params"], variables["stats"], x, train=True, **options
    )
    variables |= {"stats": stats, "grad_stats": gradients["grad_stats"]}
    seen.append(
      {"y": _real(norm, y, mask)}
      | {"dx": gradients["x"], "dparams": gradients["params"]}
      | {"stats": stats, "grad_stats": gradients["grad_stats"]}
    )
  y, _ = forward(
    variables["params"], variables["stats"], xs[0], train=False, **options
  )
  seen = jax.tree.map(lambda *leaves: np.stack(leaves), *seen)
  return seen, _real(norm, y, mask)


def assert_close(norm: norms.Norm, actual, expected):
  """Within what rounding does to the steps that the statistics remember.

  A step's sums over n tokens and its other operations are off by (n + 16) u,
  and a running value remembers 1 / (1 - momentum) steps. The root, the ratio
  and the geometric mean at most double that, dx has two of them.
  """
  momenta = [v for k, v in norm.options.items() if k.endswith("momentum")]
  tokens = np.prod(np.shape(actual[1])[:-1])
  error = 4 * (tokens + 16) * 2.0**-53 / (1 - max(momenta))

  def close(a, e):
    bound = error * max(1, np.abs(e).max())
    np.testing.assert_allclose(a, e, rtol=0, atol=bound)

  jax.tree.map(close, actual, expected)
