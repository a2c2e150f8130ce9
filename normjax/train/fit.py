"""Whether a model and its data fit, as far as the data alone tells."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import configure, errors
from normjax.imports import is_outside
from normjax.nn import checks
from normjax.nn.norm_layer import NormLayer


def check_inputs(config: configure.ConfigDict, dataset: Any) -> None:
  """Raises UserError where inputs are below 0, for a model that asks."""
  least = np.min(dataset.train_batch(0, 0, 8)["inputs"])
  if least < 0:
    raise errors.UserError(
      f"model {config.model.name!r} needs inputs >= 0 as it is configured;"
      f" data {config.data.name!r} gives {least:.3g}. Where data has the option"
      " scaling, scaling='unit' gives pixels in [0, 1]."
    )


def _classes_option(dataset: Any) -> str:
  """The option of a model that says how many classes or tokens there are."""
  options = dataset.model_options
  return next((o for o in ("vocab_size", "num_classes") if o in options), "")


def num_outputs(dataset: Any) -> int | None:
  """How many logits a model must give at least; None: any number."""
  option = _classes_option(dataset)
  is_classes = dataset.targets == "classes"
  return dataset.model_options[option] if is_classes and option else None


def check_ids(
  config: configure.ConfigDict, dataset: Any, batches: dict[str, Any]
) -> None:
  """Checks that the model has an entry for every token and label.

  Of a set that is in memory all of them, of others those of the first batches.

  Raises:
    UserError: one is out of range: the model would give NaN or wrap.
  """
  if dataset.targets != "classes":
    return
  options = dataset.model_options
  option = _classes_option(dataset)
  if not option:
    return
  what = "tokens" if dataset.reads == "tokens" else "labels"
  found = {
    f"{what} of the first {name} batch": batch[part]
    for name, batch in batches.items()
    for part in (("inputs", "targets") if what == "tokens" else ("targets",))
  }
  if hasattr(dataset, "id_range"):
    found[what] = np.asarray(dataset.id_range())
  for name, ids in found.items():
    checks.check_ids(
      name, ids, options[option], option, of=f"data {config.data.name!r}: "
    )


def check_domains(
  config: configure.ConfigDict, dataset: Any, model: nnx.Module
) -> None:
  """Checks that norms tell as many domains apart as the data has.

  Raises:
    UserError: one does not: it would give NaN, or nothing would reach it.
  """
  there = getattr(dataset, "num_domains", 0)
  for path, layer in nnx.iter_modules(model):
    needed = isinstance(layer, NormLayer) and layer.norm.traits.num_domains
    # Without domains all examples are of one.
    if not needed or needed == max(there, 1):
      continue
    name, data = layer.norm.name, config.data.name
    said = f"data {data!r} says which of {there} domains an example is from;"
    remedy = f"the two must be equal. Set norm.num_domains={there}."
    if not there:
      said = f"data {data!r} says of no example which domain it is from."
      remedy = "Set an option such as data.domain_column where it has one."
    raise errors.UserError(
      f"norm.num_domains={needed} of norm {name!r}"
      f" ({'/'.join(map(str, path))}): {said} {remedy}"
    )


def check_finite(name: str, variables: Any) -> None:
  """Checks what a model from outside begins with.

  Raises:
    UserError: a variable that is not finite: nothing could be learned.
  """
  if not is_outside(name):
    return
  for collection in variables.values():
    for path, leaf in jax.tree_util.tree_leaves_with_path(collection):
      floats = jnp.issubdtype(leaf.dtype, jnp.inexact)
      if floats and not all(
        np.isfinite(shard.data).all() for shard in leaf.addressable_shards
      ):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        raise errors.UserError(
          f"model.name={name!r}: {path!r} is not finite before the first step;"
          " see how it is initialized."
        )
