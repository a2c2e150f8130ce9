"""Test-time adaptation: a model that predicts a stream and changes with it.

    adapter = adapt.make("tent", model, learning_rate=1e-3)
    state = adapter.init(jax.random.key(0))
    for inputs in stream:
      logits, state = adapter.step(state, inputs)

`step` is pure: under `jax.jit` it is one program, under `jax.lax.scan` a
stream is one. The model is any with what the method adapts; it stays as it is,
and the state holds what it has become. `SEEN` says what the logits of a batch
have seen of it. A new method is a file here and a line of both tables.
"""

from typing import TYPE_CHECKING, Any

from normjax.adapt.seen import SEEN
from normjax.registry import Registry

if TYPE_CHECKING:
  from normjax.adapt.base import Adapter

__all__ = ["SEEN", "TABLE", "get", "make", "names"]

TABLE = {
  "source": "normjax.adapt.source:source",
  "batch": "normjax.adapt.batch:batch",
  "ema": "normjax.adapt.ema:ema",
  "alpha_bn": "normjax.adapt.alpha_bn:alpha_bn",
  "core": "normjax.adapt.core:core",
  "tent": "normjax.adapt.tent:tent",
  "unmix_tns": "normjax.adapt.unmix_tns:unmix_tns",
  "adabn": "normjax.adapt.adabn:adabn",
  "eata": "normjax.adapt.eata:eata",
  "sar": "normjax.adapt.sar:sar",
  "iabn": "normjax.adapt.iabn:iabn",
  "note": "normjax.adapt.note:note",
  "lame": "normjax.adapt.lame:lame",
  "osuda": "normjax.adapt.osuda:osuda",
}
_REGISTRY = Registry("adaptation method", TABLE, from_outside=True)
names = _REGISTRY.names
get = _REGISTRY.get


def make(name: str, model: Any, **options: Any) -> "Adapter":
  """The method called `name`, set on a model.

  Args:
    name: one of `names()`, or "package.module:factory".
    model: any nnx.Module, as `normjax.models` says; `load_run(dir).model` is
      one. It is not changed.
    **options: of the method; those that are left out are the paper's.

  Returns:
    An adapter: `init`, `step` and, of `adabn`, `fit`.

  Raises:
    UnknownNameError: no such method.
    UserError: an option that the method does not have, or a bad value; a model
      without what the method adapts.
  """
  return _REGISTRY.make(name, model, **options)
