"""Released weights as a model, and as a step of a run's start."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from normjax import configure, errors, models, validate
from normjax.convert import architecture as architectures
from normjax.convert import likeness
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Entry, Fixed, Same
from normjax.convert.settings import Settings
from normjax.convert.weights import Checkpoint, Tensor, open_checkpoint
from normjax.nn import start
from normjax.nn import variables as nn_variables
from normjax.nn.variables import Structure
from normjax.registry import near_misses

_MOST_NAMED = 3
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
  read = plan(checkpoint, family, nn_variables.merge(structure, shapes), shapes)
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
        f"the run's model (here) is not that of {checkpoint.config_file}"
        f" (there): {found}."
      )
    return plan(checkpoint, family, module, shapes, without)

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
  paths = [path for tree in shapes.values() for path in flat(tree)]
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
  for block, values in (("model", options), ("norm", options["norm"])):
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
    if not checkpoint.config:
      settings = Settings({"architecture": architecture}, settings.where)
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
      f"{checkpoint.config_file} says {layers} layers;"
      f" {checkpoint.where} holds {held} tensors in all."
    )
  try:
    return in_shapes(name, **options)
  except errors.UserError as error:
    raise type(error)(
      f"the model of {checkpoint.config_file}: {error}"
    ) from error


def in_shapes(name: str, **options: Any) -> tuple[Structure, start.Variables]:
  """A model of the zoo, without a number."""
  made = []

  def variables() -> start.Variables:
    structure, found = nn_variables.split(models.make(name, **options))
    made.append(structure)
    return found

  shapes = jax.eval_shape(variables)
  return made[0], shapes


def plan(
  checkpoint: Checkpoint,
  family: Architecture,
  module: nnx.Module,
  shapes: start.Variables,
  without: Sequence[str] = (),
) -> Callable[..., start.Variables]:
  """How the model's variables are read, once all is known to fit.

  Args:
    checkpoint: opened.
    family: of the model.
    module: in shapes.
    shapes: of its variables.
    without: modules that are not read.

  Returns:
    (dtype of the parameters, or None for that of the model; what places an
    array that is read, or None for NumPy's; drawn, what is not read) ->
    variables.

  Raises:
    UserError: a tensor that is missing, left over, or of another shape; a
      variable that the family has no tensor for.
  """
  declared = family.entries(module)
  found = _renamed(checkpoint, family)
  entries = [
    entry
    for entry in declared
    if isinstance(entry, Entry)
    and not all(likeness.is_within(path, without) for path in entry.ours)
  ]
  own = {
    path: leaf
    for tree in shapes.values()
    for path, leaf in flat(tree).items()
    if not likeness.is_within(path, without)
  }
  check_covered(family, entries, own)
  _check_names(checkpoint, family, declared, entries, found)
  wanted = {path: tuple(leaf.shape) for path, leaf in own.items()}
  for entry in entries:
    tensor = found[entry.theirs]
    _check_shape(
      checkpoint, entry.theirs, tensor, entry.shape_of_theirs(wanted)
    )
  twins = [entry for entry in declared if isinstance(entry, Same)]

  def read(
    dtype: str | None = None,
    place: Callable[..., Any] | None = None,
    drawn: start.Variables | None = None,
  ) -> start.Variables:
    for twin in twins:
      if twin.theirs in found:
        _check_equal(checkpoint, twin, found)
    trained = {*flat(shapes["params"])}
    values = {
      path: leaf
      for tree in (drawn or {}).values()
      for path, leaf in flat(tree).items()
    }
    for entry in entries:
      for path, value in entry.to_ours(found[entry.theirs].read()).items():
        chosen = dtype if dtype and path in trained else own[path].dtype
        value = np.asarray(value, jnp.dtype(chosen), order="C")
        # One by one, so that no two copies of all are there at once.
        values[path] = place(value) if place else value
    return {
      collection: _tree(tree, values) for collection, tree in shapes.items()
    }

  return read


def check_covered(
  family: Architecture, entries: list[Entry], own: Mapping[str, Any]
) -> None:
  """Raises UserError for variables that the family has no tensor for."""
  covered = {path for entry in entries for path in entry.ours}
  if extra := [path for path in own if path not in covered]:
    raise errors.UserError(
      f"architecture {family.name!r} has no tensor for what the model has:"
      f" {errors.few(extra, _MOST_NAMED)}."
    )


def _renamed(checkpoint: Checkpoint, family: Architecture) -> dict[str, Tensor]:
  """The tensors by the names of the whole model."""
  tensors = dict(checkpoint.tensors)
  prefix = family.prefix
  if not prefix or any(name.startswith(prefix) for name in tensors):
    return tensors
  return {
    name if name.startswith("lm_head.") else prefix + name: tensor
    for name, tensor in tensors.items()
  }


def _check_names(
  checkpoint: Checkpoint,
  family: Architecture,
  declared: list[Entry | Fixed | Same],
  entries: list[Entry],
  found: Mapping[str, Tensor],
) -> None:
  wanted = [entry.theirs for entry in entries]
  known = {entry.theirs for entry in declared}
  ignored = [re.compile(pattern) for pattern in family.ignored]
  missing = [name for name in wanted if name not in found]
  surplus = [
    name
    for name in found
    if name not in known
    and not any(p.fullmatch(name.removeprefix(family.prefix)) for p in ignored)
  ]
  problems = []
  if missing:
    problems.append(f"lacks {errors.few(missing, _MOST_NAMED)}")
  if surplus:
    problems.append(
      "holds what the model of config.json has no place for:"
      f" {errors.few(surplus, _MOST_NAMED)}"
    )
  if problems:
    raise errors.DataError(
      f"{checkpoint.where}, read as {family.name!r}, {'; it '.join(problems)}."
    )


def _check_shape(
  checkpoint: Checkpoint, name: str, tensor: Tensor, wanted: tuple[int, ...]
) -> None:
  if tensor.shape != wanted:
    raise errors.DataError(
      f"{tensor.file}: tensor {name!r} is {tensor.shape}; by"
      f" {checkpoint.config_file} it is {wanted}."
    )


def _check_equal(
  checkpoint: Checkpoint, twin: Same, found: Mapping[str, Tensor]
) -> None:
  first, second = found[twin.theirs], found[twin.twin]
  if first.shape != second.shape or not np.array_equal(
    first.read(), second.read()
  ):
    raise errors.DataError(
      f"{checkpoint.where}: {twin.theirs!r} is not {twin.twin!r}, and by"
      f" {checkpoint.config_file} they are one (tie_word_embeddings)."
    )


def flat(tree: Any) -> dict[str, Any]:
  """Leaves by path."""
  return {
    "/".join(key.key for key in path): leaf
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _tree(shapes: Any, values: Mapping[str, Any]) -> Any:
  """The values in the shape of a tree."""
  return jax.tree_util.tree_map_with_path(
    lambda path, _: values["/".join(key.key for key in path)], shapes
  )
