"""What `nnx.Module.train()` and `eval()` switch in modules of ours.

Flax sets the attributes below wherever a module has them, and `nnx.view`
those that a module's `set_view` names. `modes.resolve` reads them where a call
says nothing: each module its own, so that one can be switched alone.
"""

from flax import nnx

from normjax import errors
from normjax.norms import modes
from normjax.types import Array


class HasStatistics(nnx.Module):
  """A module with running statistics; see `nnx.BatchNorm`."""

  use_running_average: bool = False

  def set_view(self, *, use_running_average: bool | None = None) -> None:
    """Sets what is not None; called by `nnx.view`.

    Args:
      use_running_average: whether the running statistics are read, and stay.
    """
    if use_running_average is not None:
      self.use_running_average = use_running_average


class HasNoise(nnx.Module):
  """A module that draws in training; see `nnx.Dropout`."""

  deterministic: bool = False

  def set_view(self, *, deterministic: bool | None = None) -> None:
    """Sets what is not None; called by `nnx.view`.

    Args:
      deterministic: whether nothing is drawn.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def noise_key(
    self, train: modes.Train, key: Array | None, **rates: float
  ) -> Array | None:
    """The key of what this module draws; None where nothing is drawn.

    Args:
      train: of the call.
      key: of the call.
      **rates: of what may be drawn, by the name of their option.

    Raises:
      UserError: a bad `train`; a rate above 0 where noise is on, and no key.
        The message says how to turn it off.
    """
    if not modes.resolve(train, self).noise:
      return None
    drawn = {name: rate for name, rate in rates.items() if rate}
    if drawn and key is None:
      given = " and ".join(f"{name}={rate}" for name, rate in drawn.items())
      off = ", ".join(f"{name}=0" for name in drawn)
      raise errors.UserError(
        f"{given} in training (train=True) without a key: pass"
        " key=jax.random.key(...), or turn it off with train=False or"
        f" model.eval(), or with {off} where the model is made."
      )
    return key if drawn else None
