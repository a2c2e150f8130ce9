"""Pre-LN as Pre-RMSNorm and Pre-CRMSNorm: Jiang et al. 2023, arXiv:2305.14858.

    x <- x + F(LN x)  =  x + F(RMS x)     where every writer of x is centred
                      =  x + F(CRMS x')   x' without its last feature

Equations held against the official code, ZixuanJiang/pre-rmsnorm-transformer at
025d43a (MIT): example.py, and torch/customized_layer.py, which centres on the
fly. Its norms have no gain and no offset, so that the fold, the first step
here, is ours. Its JAX code (jax/model.py) centres kernels along their inputs,
which does not centre the stream; here, as in its PyTorch code, it is along
their outputs.
"""

from typing import Any

from flax import nnx

from normjax import errors, norms, validate
from normjax.convert import account, folding
from normjax.convert import centred as centred_lib
from normjax.convert import stream as streams
from normjax.convert.stream import Stream
from normjax.nn import neighbours, start
from normjax.nn.norm_layer import NormLayer

CENTRING = ("stored", "on_the_fly")
_NEEDED = "layer_norm"


def pre_rms_norm[Model: nnx.Module](
  model: Model, inputs: Any = None, *, centring: str = "stored"
) -> Model:
  """A Pre-LN model as the Pre-RMSNorm model of the same function.

  A tied head is untied, and readers without a bias, as a head, get one for an
  offset of their norm: an addition per logit. The stream needs no centring by
  its norms once all that is added to it has mean 0 over the features:
  embeddings, positions, tokens, and the last kernel and bias of each branch,
  each less its mean.

  What cannot be converted is refused by name: a stream of rms_norm, which has
  a mean that its norms see; norms of the stream itself (post-norm) or of what
  is added; a branch whose single features have a factor (LayerScale), or whose
  bias comes after the scaling (Fixup); interpolation; a layer that reads the
  stream without a norm. A factor that is one number is as good as none, and so
  is stochastic depth. Dropout of single features in training is not: under it
  the two models agree in evaluation alone.

  Args:
    model: stays as it is. Its modules say what the stream is
      (`normjax.nn.neighbours`), as those of `normjax.models` do.
    inputs: of a call in evaluation; with them both models are compared.
    centring: "stored": gains and offsets are folded into the readers, and
      writers are stored centred: the fastest in evaluation, and another
      parametrization to train. "on_the_fly": parameters stay as they are, and
      each call centres the writers: the same function of the same parameters
      as the Pre-LN model (with its head untied), so that a step of any
      optimizer is the same up to rounding. See `recentre` for what lies
      between.

  Raises:
    UserError: what cannot be converted; outputs that differ by more than
      rounding.
  """
  validate.choice("pre_rms_norm", "centring", centring, CENTRING)
  stored = centring == "stored"
  made, stream = _prepared(model, "pre_rms_norm", folds=stored)
  if stored:
    _fold(made, stream)
    streams.centre(made, stream)
    _swap(made, stream, "rms_norm", ("eps", "eps_placement"))
  else:
    for path in stream.norms:
      layer = neighbours.module_at(made, path)
      layer.norm = centred_lib.rms_of(layer.norm)
    centred_lib.centre_on_the_fly(made, stream)
  if inputs is not None:
    account.check_same(model, made, inputs)
  return made


def pre_crms_norm[Model: nnx.Module](model: Model, inputs: Any = None) -> Model:
  """A Pre-LN model as the Pre-CRMSNorm model of the same function.

  `pre_rms_norm`, then without the last of the d features, which is minus the
  sum of the others: the stream has d - 1. Queries, keys, values, hidden layers
  and logits keep their sizes. d - 1 is no multiple of what matrix units take,
  so that fewer operations need not be less time.

  Args:
    model: of Pre-LN; stays as it is. One of Pre-RMSNorm is refused: whether
      its writers are centred no name or shape says.
    inputs: see `pre_rms_norm`.

  Raises:
    UserError: what `pre_rms_norm` raises; an eps outside of the root, which
      crms_norm does not have; fewer than 3 features.
  """
  made, stream = _prepared(model, "pre_crms_norm", folds=True)
  for path in stream.norms:
    layer = neighbours.module_at(made, path)
    if layer.norm.options["eps_placement"] != "inside":
      raise errors.UserError(
        f"pre_crms_norm: {path} has eps_placement="
        f"{layer.norm.options['eps_placement']!r}, and crms_norm has eps inside"
        " the root alone."
      )
  if streams.variable_at(made, stream.writers[0]).shape[-1] < 3:
    raise errors.UserError(
      "pre_crms_norm leaves out one of the stream's features, and needs 3 or"
      " more of them."
    )
  _fold(made, stream)
  streams.centre(made, stream)
  streams.drop_last_feature(made, stream)
  _swap(made, stream, "crms_norm", ("eps",))
  if inputs is not None:
    account.check_same(model, made, inputs)
  return made


def recentre(model: nnx.Module) -> None:
  """Centres the writers of a model of `pre_rms_norm` again, in place.

  For training in the stored form: after each step. With gradient descent
  without decay that is the step of Pre-LN without gains, since centring is a
  projection that the gradient of Pre-LN has gone through. With Adam it is not:
  its step of a projected gradient is not its projected step.

  Raises:
    UserError: a model of another kind.
  """
  streams.centre(model, streams.survey(model, "recentre", norm="rms_norm"))


def pre_rms_norm_step(centring: str = "stored") -> start.StartStep:
  """`pre_rms_norm` before a run: what follows trains the converted model.

  Args:
    centring: see there.
  """
  validate.choice("pre_rms_norm", "centring", centring, CENTRING)

  def change(model: nnx.Module) -> nnx.Module:
    _check_noise(model, "pre_rms_norm")
    return pre_rms_norm(model, centring=centring)

  return start.of_module(change)


def pre_crms_norm_step() -> start.StartStep:
  """`pre_crms_norm` before a run: what follows trains the converted model."""

  def change(model: nnx.Module) -> nnx.Module:
    _check_noise(model, "pre_crms_norm")
    return pre_crms_norm(model)

  return start.of_module(change)


def _prepared[Model: nnx.Module](
  model: Model, asked: str, *, folds: bool
) -> tuple[Model, Stream]:
  """A copy whose head is its own, and its stream; readers' gains are folded."""
  made = nnx.clone(model)
  if getattr(made, "tied_embeddings", False):
    if not hasattr(made, "untie_head"):
      raise errors.UserError(
        f"{asked}: {type(model).__name__} has tied_embeddings, and no method"
        " untie_head() that makes its head a kernel of its own."
      )
    made.untie_head()
  if folds:
    neighbours.fold_reader_gains(made)
  return made, streams.survey(made, asked, norm=_NEEDED)


def _fold(model: nnx.Module, stream: Stream) -> None:
  """Gives the gains and offsets of the stream's norms to their readers."""
  for path, beside in stream.norms.items():
    layer = neighbours.module_at(model, path)
    reader = neighbours.module_at(model, beside.readers[0])
    gain, offset, leave = folding.parts(layer, reader)
    leave()
    folding.give_to_readers(model, beside, gain, offset)


def _swap(
  model: nnx.Module, stream: Stream, name: str, keeps: tuple[str, ...]
) -> None:
  """Puts a norm without parameters in the place of the stream's norms."""
  for path in stream.norms:
    layer: NormLayer = neighbours.module_at(model, path)
    options = {key: layer.norm.options[key] for key in keeps}
    layer.norm = norms.make(name, use_scale=False, **options)


def _check_noise(model: nnx.Module, asked: str) -> None:
  """Raises UserError where training drops single features of the stream."""
  for path, module in nnx.iter_modules(model):
    if rate := getattr(module, "dropout_rate", 0.0):
      place = "/".join(map(str, path)) or type(model).__name__
      raise errors.UserError(
        f"{asked}: dropout_rate={rate} of {place} drops single features of the"
        " stream in training, which then has a mean; the two models would agree"
        " in evaluation alone. Use 0, or drop_path_rate."
      )
