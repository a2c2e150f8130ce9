"""The options of a user's own part, "package.module:factory", in a config.

The signature of the factory says them: no file of ours can.
"""

from typing import Any

import ml_collections

from normjax import errors, signatures
from normjax.imports import is_outside, load_outside

# What is not the config's to give: whoever calls the factory fills it in, from
# the data, `train` or the roles of parameters. All schedules read the same
# keys, which stay where the name changes.
_FILLED_IN = {
  "model": (
    "compute_dtype", "input_shape", "norm", "num_classes", "rngs", "vocab_size",
  ),
  "optimizer": ("dims", "exempt", "keep", "mask", "non_negative"),
  "objective": ("label_smoothing", "z_loss"),
  "schedule": (
    "decay_fraction", "final_fraction", "num_steps", "warmup_fraction",
  ),
}  # fmt: skip


def signature(block: str, name: str) -> signatures.Signature:
  """What the factory says of its options.

  Args:
    block: of the config. A schedule is no factory: its options follow
      (step, scalars); those of an objective that is a function follow
      (outputs, batch).
    name: as in "package.module:factory".

  Raises:
    UserError: it cannot be imported, or is no factory.
  """
  factory = load_outside(f"{block}.name", name)
  try:
    found = signatures.of(factory)
  except (TypeError, ValueError) as error:
    raise errors.UserError(
      f"{block}.name={name!r} is a {type(factory).__name__}; needed: a factory,"
      f" a function that makes the {block}."
    ) from error
  is_function = block == "objective" and signatures.is_of_batch(factory)
  if block == "schedule" or is_function:
    found = found.without_first(2)
  if "name" in found.required():
    raise errors.UserError(
      f"{block}.name={name!r} has an option 'name' without a default, which a"
      " config cannot give: that key names the factory itself. Wrap it in a"
      " function without one."
    )
  return found


def options(block: str, name: str) -> tuple[str, ...]:
  """The options that are the config's to give; none of a part of ours."""
  if not is_outside(name):
    return ()
  filled_in = _FILLED_IN.get(block, ())
  return tuple(
    k
    for k in signature(block, name).parameters
    if k not in (*filled_in, "name")  # That is the block's own key.
  )


def fields(block: str, name: str) -> dict[str, Any]:
  """The keys of the block with their defaults, as far as there are some.

  None says nothing of the type that another value has.
  """
  keys = options(block, name)
  defaults = signature(block, name).defaults() if keys else {}
  return {
    key: ml_collections.FieldReference(None, field_type=object)
    if defaults[key] is None
    else defaults[key]
    for key in keys
    if key in defaults
  }


def check_learning_rate(name: str) -> None:
  """Raises UserError where an optimizer's factory takes no learning rate."""
  taken = signature("optimizer", name)
  if "learning_rate" not in taken.parameters and not taken.open_ended:
    raise errors.UserError(
      f"optimizer {name!r} takes no learning_rate, which schedules multiply;"
      " needed: a function (learning_rate, …) of your own that returns the"
      " transform."
    )
