"""A model as a folder that transformers and timm load."""

import contextlib
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from safetensors import numpy as safetensors

import normjax
from normjax import errors, faults, models, validate
from normjax.convert import architecture as architectures
from normjax.convert import likeness, pretrained, reading
from normjax.convert.architecture import Architecture
from normjax.convert.entries import Entry, Fixed, cast
from normjax.convert.settings import Settings
from normjax.convert.weights.folder import CONFIG, WEIGHTS, home
from normjax.nn import variables as nn_variables

_DTYPES = ("float32", "bfloat16", "float16")


def save_pretrained(
  model: nnx.Module,
  folder: str | Path,
  *,
  architecture: str | None = None,
  dtype: str | None = None,
) -> Path:
  """Writes config.json and model.safetensors, as other libraries load them.

  Written is only what config.json can say in full: read back it must give the
  same model, setting by setting.

  Args:
    model: of the zoo, trained or not.
    folder: is made; holds neither of the two files.
    architecture: as what it is written; None: the first of the table that can
      say what the model is.
    dtype: of the tensors with floats; None: as the model has them.

  Returns:
    The folder.

  Raises:
    UserError: no architecture can say what the model is, with what is in the
      way; or a file that is there already or cannot be written.
  """
  folder = home(folder)
  with _writable(folder):
    for name in (CONFIG, WEIGHTS):
      if (folder / name).exists():
        raise errors.UserError(
          f"{folder / name} exists; choose another folder, or move it away."
        )
  if dtype is not None:
    validate.choice("save_pretrained", "dtype", dtype, _DTYPES)
  family, config = _described(model, architecture)
  tensors = _tensors(family, model, dtype)
  kinds = {str(value.dtype) for value in tensors.values()}
  floats = [kind for kind in ("float64", *_DTYPES) if kind in kinds]
  config = {**config, "torch_dtype": floats[0], "normjax": normjax.__version__}
  safe = safetensors.save(tensors, metadata={"format": "pt"})
  with _writable(folder):
    faults.make_folder(folder)
    _write(folder / WEIGHTS, safe)
    _write(folder / CONFIG, (json.dumps(config, indent=2) + "\n").encode())
  return folder


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
  """What a closed folder or a full disk raises, as bad input."""
  try:
    yield
  except OSError as error:
    raise errors.UserError(
      f"cannot write to {folder}: {error.strerror}."
    ) from error


def _write(file: Path, content: bytes) -> None:
  new = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
  try:
    new.write_bytes(content)
    new.replace(file)
  finally:
    new.unlink(missing_ok=True)


def _described(
  model: nnx.Module, architecture: str | None
) -> tuple[Architecture, dict[str, Any]]:
  """The first architecture that says what the model is, and its config."""
  if architecture is not None:
    known = [architectures.named(architecture, "architecture")]
  else:
    known = [architectures.get(name) for name in architectures.TABLE]
  alike = [
    family
    for family in known
    if not family.models
    or type(model) in [models.get(name) for name in family.models]
  ]
  if not alike:
    names = ", ".join(family.name for family in known)
    raise errors.UserError(f"no {type(model).__name__} is written as {names}.")
  if held := _held_otherwise(model):
    raise errors.UserError(
      f"no config.json can say what this {type(model).__name__} is: {held}, and"
      " files have matrices in whole; needed: linear='dense'."
    )
  problems: dict[str, list[str]] = {}
  for family in alike:
    problem, config = _config(family, model)
    if not problem:
      return family, config
    problems.setdefault(problem.rstrip("."), []).append(family.name)
  said = [f"{', '.join(of)}: {problem}" for problem, of in problems.items()]
  raise errors.UserError(
    f"no config.json can say what this {type(model).__name__} is"
    f" ({'; '.join(said)})."
  )


def _held_otherwise(model: nnx.Module) -> str:
  """Which layers hold their matrix as factors or the like; "": none."""
  found = [
    ("/".join(map(str, path)), type(module).__name__)
    for path, module in nnx.iter_modules(model)
    if hasattr(module, "matrix") and not hasattr(module, "kernel")
  ]
  if not found:
    return ""
  path, kind = found[0]
  more = errors.and_more(len(found) - 1)
  return f"{path} is a {kind}" + (f" ({more})" if more else "")


def _config(
  family: Architecture, model: nnx.Module
) -> tuple[str, dict[str, Any]]:
  """(what is in the way, the config)."""
  try:
    config = family.config(model)
  except errors.UserError as error:
    return str(error), {}
  except (AttributeError, KeyError, TypeError, IndexError) as error:
    said = error.args[0] if error.args else type(error).__name__
    return f"it lacks a part that {family.name} has: {said}", {}
  try:
    name, options = family.options(Settings(config, CONFIG))
    module = nn_variables.merge(*pretrained.in_shapes(name, **options))
  except errors.UserError as error:
    return str(error), config
  return likeness.differences(model, module), config


def _tensors(
  family: Architecture, model: nnx.Module, dtype: str | None
) -> dict[str, np.ndarray]:
  _, variables = nn_variables.split(model)
  own = {
    path: leaf
    for tree in variables.values()
    for path, leaf in reading.flat(tree).items()
  }
  declared = family.entries(model)
  entries = [entry for entry in declared if isinstance(entry, Entry)]
  reading.check_covered(family, entries, own)
  tensors = {
    entry.theirs: entry.value for entry in declared if isinstance(entry, Fixed)
  }
  for entry in entries:
    values = {path: np.asarray(own[path]) for path in entry.ours}
    tensor = entry.to_theirs(values)
    chosen = tensor.dtype
    if dtype is not None and jnp.issubdtype(chosen, jnp.floating):
      chosen = jnp.dtype(dtype)
    tensors[entry.theirs] = cast(tensor, chosen, repr(entry.theirs))
  return tensors
