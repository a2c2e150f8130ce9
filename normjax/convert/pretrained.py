"""Released weights as a model, and as a step of a run's start."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from normjax import configure, errors, models, validate
from normjax.convert import architecture as architectures
from normjax.convert import likeness, reading
from normjax.convert.architecture import Architecture
from normjax.convert.settings import Settings
from normjax.convert.weights import Checkpoint, open_checkpoint
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.nn.variables import Structure
from normjax.registry import near_misses

TOKENIZER = "tokenizer.json"
_OF_DATA = ("vocab_size", "num_classes", "input_shape")
_DTYPES = ("float32", "bfloat16", "float16", "float64")


def from_pretrained(
  folder: str | Path,
  *,
  dtype: str = "float32",
  architecture: str | None = None,
  **options: Any,
) -> nnx.Module:
  """The model that a folder of released weights is.

  Its config.json decides the sizes, the norm and its eps, heads, positions and
  whether the head is tied. All is checked before a weight is read: which
  tensors there are, their shapes, settings that no model here has.

  Args:
    folder: with config.json and weights, as transformers and timm lay them out.
    dtype: of the parameters; statistics stay as the model has them. With
      "float64" the model computes in it, too.
    architecture: what the model is, where config.json does not say it.
    **options: of `models.make`, in place of those that config.json decides or
      beside them: `compute_dtype`, `dropout_rate`, `scan_layers`.

  Returns:
    A model of the zoo, as `models.make` makes it.

  Raises:
    UserError: the first thing that does not fit, with file, name and remedy.
  """
  validate.choice("from_pretrained", "dtype", dtype, _DTYPES)
  if dtype == "float64":
    options = {"compute_dtype": dtype, **options}
  checkpoint = open_checkpoint(folder)
  family, name, own = described(checkpoint, architecture)
  structure, shapes = _made(checkpoint, name, {**own, **options})
  read = reading.plan(
    checkpoint, family, nn_variables.merge(structure, shapes), shapes
  )
  return nn_variables.merge(structure, read(dtype, jax.device_put))


def from_pretrained_step(
  folder: str = "",
  architecture: str | None = None,
  without: str | Sequence[str] = (),
) -> start.StartStep:
  """A run that starts from released weights.

  The run's model and that of config.json must be the same, but for dropout,
  dtypes and how layers are looped over; `pretrained_config` gives the blocks of
  a config that are.

  Args:
    folder: as of `from_pretrained`.
    architecture: what the model is, where config.json does not say it.
    without: modules of the model, by path, that stay as they are drawn and may
      be of other sizes: "head" for other classes.

  Raises:
    UserError: no folder is named. The step itself raises it where the files do
      not fit the model.
  """
  without = (without,) if isinstance(without, str) else tuple(without)
  if not isinstance(folder, str) or not folder:
    raise errors.UserError(
      f"start step 'from_pretrained' has folder={folder!r}; needed: the folder"
      " of config.json and weights."
    )

  def planned(model: Structure, shapes: start.Variables):
    checkpoint = open_checkpoint(folder)
    family, name, own = described(checkpoint, architecture)
    module = nn_variables.merge(model, shapes)
    reference = nn_variables.merge(*_made(checkpoint, name, own))
    _check_without(without, shapes)
    if found := likeness.differences(module, reference, without):
      raise errors.UserError(
        f"the run's model (here) is not that of {checkpoint.said_by}"
        f" (there): {found}."
      )
    return reading.plan(checkpoint, family, module, shapes, without)

  def apply(
    model: Structure, variables: start.Variables
  ) -> tuple[Structure, start.Variables]:
    shapes = jax.eval_shape(lambda: variables)
    return model, planned(model, shapes)(drawn=variables)

  return start.StartStep(
    apply,
    changes_structure=False,
    check=lambda model, shapes: planned(model, shapes) and None,
  )


def _check_without(without: Sequence[str], shapes: start.Variables) -> None:
  paths = [path for tree in shapes.values() for path in reading.flat(tree)]
  modules = dict.fromkeys(path.rpartition("/")[0] for path in paths)
  for name in without:
    if not any(likeness.is_within(path, (name,)) for path in paths):
      raise errors.UserError(
        f"without={name!r}: the model has no such module."
        f"{near_misses(name, modules)}"
      )


def pretrained_config(
  config: configure.ConfigDict,
  folder: str | Path,
  architecture: str | None = None,
  without: str | Sequence[str] = (),
) -> configure.ConfigDict:
  """A run's config with the model, the norm and the start of a folder.

  For a config file: `return convert.pretrained_config(config, "gpt2")`. Where
  the folder has a tokenizer.json and the data set reads text, it reads it by
  that, with the vocabulary of the model.

  Args:
    config: stays as it is.
    folder: as of `from_pretrained`.
    architecture: see there.
    without: what is not read, as of the start step.

  Raises:
    UserError: what `from_pretrained` raises of a config.json.
  """
  checkpoint = open_checkpoint(folder)
  _, name, options = described(checkpoint, architecture)
  said = f"folder={str(folder)!r}"
  if architecture is not None:
    said += f", architecture={architecture!r}"
  if without:
    said += (
      f", without={without if isinstance(without, str) else (*without,)!r}"
    )
  changed = {
    "model.name": name,
    "train.initialize_from": (f"from_pretrained({said})",),
  }
  for block in ("model", "norm"):
    values = options if block == "model" else options.get("norm", {})
    for key, value in configure.leaves(values):
      # The data says how many tokens or classes there are.
      if key.partition(".")[0] not in ("norm", *_OF_DATA):
        changed[f"{block}.{key}"] = value
  tokenizer = checkpoint.where / TOKENIZER
  if "tokenizer" in config.data and tokenizer.is_file():
    changed["data.tokenizer"] = str(tokenizer)
    changed["data.vocab_size"] = options["vocab_size"]
  return configure.override(config, changed)


def described(
  checkpoint: Checkpoint, architecture: str | None = None
) -> tuple[Architecture, str, dict[str, Any]]:
  """The family, the model here and its options.

  Raises:
    UserError: it is unknown, or has settings that no model here has.
  """
  settings = Settings(checkpoint.config, str(checkpoint.config_file))
  if architecture is not None:
    family = architectures.named(architecture, "architecture")
    # Where it names one model, as timm's do, and not a family of the table.
    if architecture not in architectures.TABLE or not checkpoint.config:
      where = settings.where if checkpoint.config else checkpoint.said_by
      said = {**checkpoint.config, "architecture": architecture}
      settings = Settings(said, where)
  elif not checkpoint.config:
    raise errors.DataError(
      f"no file {checkpoint.config_file}, which says what the weights are."
    )
  else:
    family = architectures.of(settings)
  name, options = family.options(settings)
  return family, name, options


def _made(
  checkpoint: Checkpoint, name: str, options: Mapping[str, Any]
) -> tuple[Structure, start.Variables]:
  """The model in shapes; what it refuses begins with the file's name."""
  layers, held = options.get("num_layers", 1), len(checkpoint.tensors)
  if isinstance(layers, int) and layers > held:
    # Before so many are made, be it in shapes alone.
    raise errors.DataError(
      f"{checkpoint.said_by} says {layers} layers;"
      f" {checkpoint.where} holds {held} tensors in all."
    )
  try:
    return in_shapes(name, **options)
  except errors.UserError as error:
    raise type(error)(f"the model of {checkpoint.said_by}: {error}") from error


def in_shapes(name: str, **options: Any) -> tuple[Structure, start.Variables]:
  """A model of the zoo, without a number."""
  made = []

  def variables() -> start.Variables:
    structure, found = nn_variables.split(models.make(name, **options))
    made.append(structure)
    return found

  shapes = jax.eval_shape(variables)
  return made[0], shapes
