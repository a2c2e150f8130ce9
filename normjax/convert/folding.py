"""Norms folded into the linear layers beside them, in any model."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx

from normjax import errors, norms
from normjax.convert import account as accounts
from normjax.convert import linear, linear_norms, watched
from normjax.convert.account import Account
from normjax.nn import folding, neighbours, start
from normjax.nn.conv_norm import ConvNorm
from normjax.nn.neighbours import Neighbours
from normjax.nn.norm_layer import NormLayer
from normjax.nn.paths import TwoPathNorm
from normjax.nn.variables import own_variables
from normjax.norms import affine
from normjax.types import Array


def fold[Model: nnx.Module](
  model: Model, inputs: Any = None, *, new_biases: bool = False
) -> tuple[Model, Account]:
  """A model with fewer operations that computes what `model` does.

      W (g n + b) + c = (W diag(g)) n + (W b + c),    n = N(x)

  A norm whose gain g and offset b come last loses them to the linear layers
  that read it: layer_norm, rms_norm, dyt (alpha stays), bhyt and the like. A
  norm that is an affine map of a channel at evaluation is folded whole, and
  the new model computes in training, too, what `model` computes in
  evaluation: batch_norm, unified_norm and the like, into the layer whose
  output it normalizes, where it alone reads that, else into its readers.
  Trained further the new model moves otherwise than `model` would.

  Which layers these are a model says in `norm_neighbours`
  (`normjax.nn.neighbours`); norms of which it says nothing stay. What a norm's
  fold would cost more than it saves stays, too: an offset is folded where all
  readers have a bias, which then costs nothing.

  Args:
    model: stays as it is.
    inputs: of a call, `model(inputs, train=False)`. With them both models are
      called and compared, and the account has what the compiler counts.
    new_biases: whether readers without a bias get one for an offset.

  Returns:
    The new model, and what was folded, left and saved.

  Raises:
    UserError: no norm can be folded, with why of each; or the outputs differ
      by more than rounding, as where a model says what is not true of it.
  """
  folded = nnx.clone(model)
  done, left = _fold_all(folded, new_biases)
  watched.unwatch(folded)
  if not done:
    raise errors.UserError(
      f"fold finds nothing in {type(model).__name__} that a linear layer can"
      f" take over. {_reasons(left)}"
    )
  return folded, accounts.make(model, folded, inputs, done, left)


def start_step(new_biases: bool = False) -> start.StartStep:
  """`fold` before a run: what follows trains the folded model.

  Args:
    new_biases: see `fold`.
  """
  return start.of_module(lambda model: fold(model, new_biases=new_biases)[0])


def _fold_all(
  model: nnx.Module, new_biases: bool
) -> tuple[tuple[str, ...], dict[str, str]]:
  """Folds in place: paths of what was, and why other norms were not."""
  done = neighbours.fold_reader_gains(model)
  left: dict[str, str] = {}
  known = neighbours.of(model)
  for path, module in nnx.iter_modules(model):
    place = "/".join(map(str, path))
    if not isinstance(module, NormLayer) or module.norm.name == "identity":
      continue
    beside = known.get(place, Neighbours())
    reason = _fold_one(model, module, beside, new_biases)
    if reason:
      left[place] = f"{module.norm.name}: {reason}"
    else:
      done.append(place)
  for _, site in nnx.iter_modules(model):
    if isinstance(site, ConvNorm) and site.norm.norm.norm.name == "identity":
      site.mode = "train"  # Nothing is left for the others to do.
  return tuple(done), left


def _fold_one(
  model: nnx.Module, layer: NormLayer, beside: Neighbours, new_biases: bool
) -> str:
  """Folds one norm; or says why not."""
  if type(layer) not in (NormLayer, TwoPathNorm):
    return f"is a {type(layer).__name__}, with a way of its own"
  whole = layer.norm.traits.foldable
  if whole and beside.writer:
    writer = neighbours.module_at(model, beside.writer)
    if reason := linear.obstacle(writer):
      return f"{beside.writer} {reason}"
    into_writer(layer, writer)
    return ""
  if layer.norm.is_linear_fn is not None:
    return _fold_linear(model, layer, beside, new_biases)
  if not (whole or layer.norm.traits.affine_last):
    return "its gain is not the last thing that it does"
  if not whole and not own_variables(layer)["params"]:
    return "it has no gain and no offset"
  if beside.obstacle:
    return beside.obstacle
  if not beside.readers:
    return "nothing says that linear layers alone read it"
  reader = neighbours.module_at(model, beside.readers[0])
  gain, offset, leave = parts(layer, reader)
  if reason := reader_obstacle(model, beside, offset, new_biases):
    return reason
  leave()
  give_to_readers(model, beside, gain, offset)
  return ""


def _fold_linear(
  model: nnx.Module, layer: NormLayer, beside: Neighbours, new_biases: bool
) -> str:
  """Folds a norm that has become an affine map of all features of x."""
  reason = linear_norms.obstacle(layer) or beside.obstacle
  if reason:
    return reason
  if not beside.readers:
    return "nothing says that linear layers alone read it"
  reader = neighbours.module_at(model, beside.readers[0])
  if reason := linear.obstacle(reader):
    return f"{beside.readers[0]} {reason}"
  matrix, offset = linear_norms.map_of(layer, linear.num_inputs(reader))
  has_offset = "bias" in own_variables(layer)["params"]
  given = offset if has_offset else None
  if reason := reader_obstacle(model, beside, given, new_biases):
    return reason
  # Past the constant of the block: of the offset there, of x with the matrix.
  give_to_readers(model, beside, None, given)
  for path in beside.readers:
    linear.map_inputs(neighbours.module_at(model, path), matrix)
  _leave_identity(layer)
  return ""


def into_writer(layer: NormLayer, writer: Any) -> None:
  """Folds a norm, affine at evaluation, into the layer whose output it has."""
  bias = writer.bias[...] if linear.has_bias(writer) else None
  kernel, bias = folding.fold(
    linear.kernel_of(writer), bias, layer.norm, own_variables(layer)
  )
  linear.become(writer, kernel, bias)
  _leave_identity(layer)


def parts(
  layer: NormLayer, reader: Any
) -> tuple[Array | None, Array | None, Callable[[], None]]:
  """What readers take over: gain, offset, and how to leave the norm without.

  Of a norm that is affine at evaluation that is the whole of it.

  Args:
    layer: the norm.
    reader: one of its readers.
  """
  variables = own_variables(layer)
  if layer.norm.traits.foldable:
    dtype = linear.kernel_of(reader).dtype
    zero = jnp.zeros((linear.num_inputs(reader),), dtype)
    offset, gain = folding.value_and_slope(layer.norm, variables, zero)
    return gain, offset, functools.partial(_leave_identity, layer)
  rest, kept, gain, offset = affine.taken_from(layer.norm, variables["params"])
  leave = functools.partial(set_norm, layer, rest, keep=kept)
  return gain, offset, leave


def reader_obstacle(
  model: nnx.Module,
  beside: Neighbours,
  offset: Array | None,
  new_biases: bool,
) -> str:
  """Why the readers cannot take over a gain and an offset; "" if they can."""
  has_offset = offset is not None
  for path in beside.readers:
    reader = neighbours.module_at(model, path)
    if reason := linear.input_obstacle(reader, offset=has_offset):
      return f"{path} {reason}"
    if has_offset and not new_biases and not linear.has_bias(reader):
      return f"{path} has no bias to take its offset; new_biases=True makes one"
  return ""


def give_to_readers(
  model: nnx.Module,
  beside: Neighbours,
  gain: Array | None,
  offset: Array | None,
) -> None:
  """Folds into all readers; first the offset, which meets the old kernel."""
  for path in beside.readers:
    reader = neighbours.module_at(model, path)
    if offset is not None:
      moved = linear.offset_outputs(reader, beside.factor * offset)
      linear.add_bias(reader, moved)
    if gain is not None:
      linear.scale_inputs(reader, gain)


def set_norm(
  layer: NormLayer, norm: norms.Norm, keep: Mapping[str, Any]
) -> None:
  """Makes it the layer of another norm, of whose variables it keeps some."""
  linear_norms.leave(layer, norm, tuple(keep))


def _leave_identity(layer: NormLayer) -> None:
  set_norm(layer, norms.make("identity"), keep={})


def _reasons(left: Mapping[str, str]) -> str:
  if not left:
    return "It holds no norm."
  return f"{errors.few([f'{k} ({v})' for k, v in left.items()], 3, '; ')}."
