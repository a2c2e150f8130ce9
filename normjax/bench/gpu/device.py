"""Which device it is, how fast it copies and multiplies."""

import datetime
import importlib.metadata
import os
import platform
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from normjax.bench.gpu import clock
from normjax.bench.gpu.worker import Stage
from normjax.train import precision

_PACKAGES = (
  "jax", "jaxlib", "jax-cuda13-plugin", "flax", "optax", "orbax-checkpoint",
  "numpy", "ml-collections",
)  # fmt: skip
# By the names that other stages call a precision: the operands, and what
# `train.matmul_precision` would say of them.
_MATMULS = {
  "bfloat16": (jnp.bfloat16, "default"),
  "float32": (jnp.float32, "float32"),
  "tf32": (jnp.float32, "tf32"),
}


def run(stage: Stage) -> None:
  """Facts, a copy, and products in three precisions."""
  device = jax.devices()[0]
  with stage.item("facts") as found:
    found |= {
      "facts": {"device_kind": device.device_kind, "platform": device.platform},
      "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
      "python": platform.python_version(),
      "cores": len(os.sched_getaffinity(0)),
      "runtime": str(getattr(device.client, "platform_version", "")),
      "versions": {name: _version(name) for name in _PACKAGES},
    }
  if device.platform == "cpu" and not stage.tiny:
    return  # Large sizes would take minutes, and say nothing.
  with stage.item("copy") as found:
    size = 2**16 if stage.tiny else 2**28
    x = jnp.ones(size, jnp.float32)
    clock.measure(found, clock.calls(jax.jit(jnp.negative), [(x,)]))
    speed = 2 * x.nbytes / 1e9 / found["seconds"]
    found["facts"] = {"copy_gb_per_s": speed}
  for name, (dtype, choice) in _MATMULS.items():
    with stage.item(f"matmul {name}") as found:
      _matmul(found, 128 if stage.tiny else 8192, dtype, choice)
      found["facts"] = {f"{name}_tflop_per_s": found["tflop_per_s"]}


def _matmul(found: dict[str, Any], n: int, dtype: Any, choice: str) -> None:
  """A product of squares, with its error to float64 on some rows."""
  keys = jax.random.split(jax.random.key(0))
  a, b = (jax.random.normal(key, (n, n)).astype(dtype) for key in keys)
  with precision.applied(choice):
    multiply = jax.jit(jnp.matmul).lower(a, b).compile()
  clock.measure(found, clock.calls(multiply, [(a, b)]))
  exact = np.asarray(a[:64], np.float64) @ np.asarray(b, np.float64)
  error = np.asarray(multiply(a, b)[:64], np.float64) - exact
  found |= {
    "n": n,
    "tflop_per_s": 2 * n**3 / 1e12 / found["seconds"],
    "error_to_float64": np.linalg.norm(error) / np.linalg.norm(exact),
  }


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None
