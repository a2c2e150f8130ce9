"""`dsbn` against the official one, as `record_domains.py` has it."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from normjax import norms
from tests.norms.official import inputs

FILE = pathlib.Path(__file__).parent / "images" / "dsbn.npz"


def test_steps_of_one_domain_after_another():
  with np.load(FILE) as file:
    theirs = dict(file)
  # PyTorch's momentum weighs the new value.
  norm = norms.make("dsbn", num_domains=2, momentum=0.8)

  @jax.jit
  def run(params, stats, x, dy, domain, other):
    def apply(params, x):
      held = {"params": params, "stats": stats}
      return norm.apply(held, x, context=jnp.full(len(x), domain))

    y, pull, new = jax.vjp(apply, params, x, has_aux=True)
    dparams, dx = pull(dy)
    evaluated, _ = norm.apply(
      {"params": params, "stats": new},
      jnp.asarray(inputs.images(1)),
      train=False,
      context=jnp.full(len(x), other),
    )
    own = {f"d{name}": value for name, value in dparams.items()}
    return {"y": y, "dx": dx, **own, **new}, new, evaluated

  with jax.enable_x64(True):
    start = norm.init(inputs.IMAGES[-1:], float)
    size = inputs.IMAGES[-1:]
    # A weight and a bias of one domain, then those of the next.
    params = {
      name: jnp.stack(
        [
          jnp.asarray(inputs.image_parameter(i, size))
          for i in (first, first + 2)
        ]
      )
      for first, name in enumerate(("scale", "bias"))
    }
    stats = jax.tree.map(lambda a: a.astype(float), start["stats"])
    seen = []
    for step, domain in enumerate(theirs.pop("domains"), 1):
      made = (inputs.images(step), inputs.image_cotangents(step))
      given = [jnp.asarray(array) for array in made]
      for_both = [run(params, stats, *given, domain, other) for other in (0, 1)]
      seen.append(for_both[0][0])
      stats = for_both[0][1]
    ours = jax.tree.map(lambda *values: np.stack(values), *seen)
    ours["evaluated"] = np.stack([evaluated for *_, evaluated in for_both])
  theirs.pop("torch")
  assert set(ours) == set(theirs)
  # Both round float64 sums of 36 products, a few times in a row.
  for key, value in theirs.items():
    atol = 4 * 36 * 2**-53 * np.abs(value).max()
    np.testing.assert_allclose(ours[key], value, rtol=0, atol=atol, err_msg=key)
