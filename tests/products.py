"""The matrix products of a traced function, and what they say of precision."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AbstractDevice, AbstractMesh

HIGHEST = (lax.Precision.HIGHEST,) * 2
_PRODUCTS = ("dot_general", "conv_general_dilated")


class Product(NamedTuple):
  """One product: its primitive, dtypes of operands and sums, its precision."""

  primitive: str
  dtypes: tuple[str, ...]
  precision: Any
  sums: str

  @property
  def is_rounded(self) -> bool:
    """Whether a platform may round operands that have more than 16 bits."""
    wide = any(
      jnp.issubdtype(d, jnp.floating) and jnp.finfo(d).bits > 16
      for d in self.dtypes
    )
    return wide and self.precision != HIGHEST


def of(jaxpr: Any) -> Iterator[Product]:
  """All products of a jaxpr, those of its loops and branches too."""
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  for equation in jaxpr.eqns:
    if equation.primitive.name in _PRODUCTS:
      yield Product(
        equation.primitive.name,
        tuple(each.aval.dtype.name for each in equation.invars),
        equation.params["precision"],
        jnp.dtype(equation.outvars[0].aval.dtype).name,
      )
    for inner in jax.tree.leaves(
      list(equation.params.values()), is_leaf=_is_jaxpr
    ):
      if _is_jaxpr(inner):
        yield from of(inner)


def _is_jaxpr(value: Any) -> bool:
  return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def compiled_for(platform: str, kind: str = "") -> Any:
  """What is traced inside is for one such device, which need not be here."""
  kinds = {"cpu": "cpu", "gpu": "NVIDIA H200", "tpu": "TPU v6 lite"}
  device = AbstractDevice(
    device_kind=kind or kinds[platform],
    num_cores=132 if platform == "gpu" else 1,
    platform=platform,
  )
  return jax.sharding.use_abstract_mesh(
    AbstractMesh((), (), abstract_device=device)
  )
