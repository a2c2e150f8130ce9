"""normjax against PyTorch's norms of images, as `record_images.py` has them."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from normjax import norms
from tests.norms.official import inputs

FOLDER = pathlib.Path(__file__).parent / "images"

# PyTorch's momentum weighs the new value; timm's EvoNorm-B, like PyTorch, keeps
# the unbiased variance.
_TIMM_B = {"momentum": 0.9, "eps": 1e-5, "running_variance": "unbiased"}
OURS = {
  "torch_batch_norm": ("batch_norm", {"momentum": 0.8}),
  "torch_group_norm": ("group_norm", {"num_groups": 4, "eps": 1e-5}),
  "torch_instance_norm": ("instance_norm", {"eps": 1e-5}),
  "timm_evonorm_b0": ("evonorm_b0", _TIMM_B | {"eps": 1e-3}),
  "timm_evonorm_b1": ("evonorm_b1", _TIMM_B),
  "timm_evonorm_b2": ("evonorm_b2", _TIMM_B | {"momentum": 0.8}),
  "timm_evonorm_s0": ("evonorm_s0", {"num_groups": 4}),
  "timm_evonorm_s1": ("evonorm_s1", {"num_groups": 4}),
  "timm_evonorm_s2": ("evonorm_s2", {"num_groups": 4}),
  "timm_frn": ("frn", {"eps": 1e-5}),
  "switch_norm": ("switchable_norm", {"momentum": 0.8}),
  "batch_channel_norm": ("bcn", {"num_groups": 4}),
}
# Their name -> ours, where it is another.
NAMES = {
  "weight": "scale",
  "running_mean": "mean",
  "running_var": "var",
  "pbn.weight": "scale",
  "pbn.bias": "bias",
  "pbn.running_mean": "mean",
  "pbn.running_var": "var",
}
# The second stage's parameters have the plain names there.
BCN_NAMES = {"weight": "group_scale", "bias": "group_bias"}


def steps(norm, params):
  """What `record_images.py` records, of ours, in float64."""
  stats = jax.tree.map(
    lambda a: a.astype(float), norm.init(inputs.IMAGES[-1:])["stats"]
  )
  seen = []
  for step in range(1, inputs.IMAGE_STEPS + 1):

    def apply(params, x, stats=stats):
      return norm.apply({"params": params, "stats": stats}, x)

    x = jnp.asarray(inputs.images(step))
    y, pull, stats = jax.vjp(apply, params, x, has_aux=True)
    dparams, dx = pull(jnp.asarray(inputs.image_cotangents(step)))
    own = {f"d{name}": value for name, value in dparams.items()}
    seen.append({"y": y, "dx": dx} | own | stats)
  held = {"params": params, "stats": stats}
  y, _ = norm.apply(held, jnp.asarray(inputs.images(1)), train=False)
  stacked = jax.tree.map(lambda *values: np.stack(values), *seen)
  return stacked | {"evaluated": np.asarray(y)}


@pytest.mark.parametrize("case", OURS)
def test_steps_and_evaluation(case):
  with np.load(FOLDER / f"{case}.npz") as file:
    theirs = dict(file)
  meta = json.loads(str(theirs.pop("meta")))
  names = NAMES | (BCN_NAMES if case == "batch_channel_norm" else {})
  # Counters of batches steer nothing.
  theirs = {k: v for k, v in theirs.items() if "num_batches" not in k}
  name, options = OURS[case]
  norm = norms.make(name, **options)
  with jax.enable_x64(True):
    params = norm.init(inputs.IMAGES[-1:], float)["params"]
    for index, parameter in enumerate(meta["parameters"]):
      own = names.get(parameter, parameter)
      value = inputs.image_parameter(index, params[own].shape)
      params[own] = jnp.asarray(value)
    ours = steps(norm, params)
  renamed = {}
  for key, value in theirs.items():
    own = names.get(key, f"d{names.get(key[1:], key[1:])}")
    own = key if key in ("y", "dx", "evaluated") else own
    renamed[own] = value.reshape(ours[own].shape)
  assert set(renamed) == set(ours)
  # timm takes statistics in float32; else both round float64 sums of 36
  # products, a few times in a row.
  rounding = 2**-24 if case.startswith("timm") else 2**-53
  for key, value in renamed.items():
    scale = np.abs(value).max()
    np.testing.assert_allclose(
      ours[key], value, rtol=0, atol=4 * 36 * rounding * scale, err_msg=key
    )
