"""The norms inside of blocks faded out while a model is trained.

arXiv:2602.10408; see `normjax.norms.taper_norm` for what was read of it.
"""

import jax.numpy as jnp
from flax import nnx

from normjax import errors, validate
from normjax.convert import removal
from normjax.nn import neighbours, start
from normjax.nn.variables import attach_variables
from normjax.norms import Norm, taper_norm

ASKED = "taper_norms"


def taper_norms_step(
  taper_from: int = 0, taper_steps: int = 0, momentum: float = 0.99
) -> start.StartStep:
  """Training in which the norms before branches fade into fixed gains.

  Each becomes a `normjax.norms.taper_norm` with the gain and offset that it
  had. The final norm stays: it holds the scale of the logits. After the last
  step of the taper `convert.fold` puts what is left into kernels.

      train.initialize_from = ("runs/a", "taper_norms(taper_from=50,
      taper_steps=100)")

  Without a run before it, it is pre-training with norms that go. An average of
  weights (train.ema_decay) has gamma2 in it, too, from 1 on, where it starts:
  with one, set train.ema_warmup.

  Args:
    taper_from: the training step at which they begin to fade, >= 1; the steps
      before it measure.
    taper_steps: how many steps that takes, >= 1.
    momentum: see `taper_norm`.

  Raises:
    UserError: an option out of range; from the step, a model with norms that
      cannot go, or a run that ends before the taper.
  """
  _check_options(taper_from, taper_steps, momentum)
  return start.of_module(
    lambda model: taper_norms(model, taper_from, taper_steps, momentum),
    steps_needed=lambda model: taper_from + taper_steps,
  )


def taper_norms[Model: nnx.Module](
  model: Model, taper_from: int, taper_steps: int, momentum: float = 0.99
) -> Model:
  """A copy of the model whose norms before branches fade as it is trained.

  Args:
    model: stays as it is.
    taper_from: see `taper_norms_step`.
    taper_steps: see `taper_norms_step`.
    momentum: see `taper_norms_step`.

  Raises:
    UserError: see `taper_norms_step`.
  """
  _check_options(taper_from, taper_steps, momentum)
  made = nnx.clone(model)
  sites = [
    path
    for path in removal.norm_sites(made)
    if path.endswith(removal.INPUT_NORM)
  ]
  if not sites:
    raise errors.UserError(
      f"{type(model).__name__} has no norm before a branch that could fade."
    )
  for path in sites:
    layer = neighbours.module_at(made, path)
    if not layer.norm.options["use_scale"]:
      raise errors.UserError(f"{path} has no gain that could become its tail.")
    layer.norm = _taper_of(layer.norm, momentum)
    new = layer.norm.init(layer.scale[...].shape)
    attach_variables(
      layer,
      {
        "params": {"tail_offset": new["params"]["tail_offset"]},
        "stats": new["stats"],
      },
    )
    layer.taper_from.set_value(jnp.asarray(taper_from, jnp.int32))
    layer.taper_steps.set_value(jnp.asarray(taper_steps, jnp.int32))
  return made


def _check_options(taper_from: int, taper_steps: int, momentum: float) -> None:
  """Raises UserError for an option out of range."""
  validate.count(ASKED, "taper_from", taper_from, least=1)
  validate.count(ASKED, "taper_steps", taper_steps, least=1)
  validate.number(ASKED, "momentum", momentum, least=0, most=1)


def _taper_of(norm: Norm, momentum: float) -> Norm:
  return taper_norm.taper_norm(
    eps=norm.options["eps"],
    momentum=momentum,
    use_bias=norm.options.get("use_bias", False),
    centred=norm.name == "layer_norm",
  )
