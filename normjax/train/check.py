"""What can be refused before anything is paid for."""

from normjax import build, configure, errors
from normjax.data import corruptions
from normjax.record import probes
from normjax.train import schedules, warm_start


def check(config: configure.ConfigDict) -> None:
  """Builds all that is cheap to build, to fail before anything is paid.

  Raises:
    UserError: a value that no run can use; the message names the key.
  """
  positive = (
    "train.num_steps",
    "train.batch_size",
    "train.accumulation_steps",
    "evaluate.every_steps",
    "evaluate.batch_size",
    "log.every_steps",
    "checkpoint.keep",
  )
  flat = dict(configure.leaves(configure.to_dict(config)))
  for path in positive:
    if flat[path] < 1:
      raise errors.UserError(f"{path}={flat[path]} must be at least 1.")
  for path in ("train.gradient_clip", "train.label_smoothing", "train.z_loss"):
    if flat[path] < 0:
      raise errors.UserError(f"{path}={flat[path]} must not be negative.")
  if flat["train.batch_size"] % flat["train.accumulation_steps"]:
    raise errors.UserError(
      f"train.batch_size={flat['train.batch_size']} is not a multiple of"
      f" train.accumulation_steps={flat['train.accumulation_steps']}."
    )
  if flat["train.precision"] not in ("float32", "bfloat16"):
    raise errors.UserError(
      f"train.precision={flat['train.precision']!r};"
      " allowed: 'float32', 'bfloat16'."
    )
  probes.check(config.log.probes)
  warm_start.check(config.train.initialize_from)
  _check_corruptions(config)
  schedules.get(config.schedule.name)
  build.optimizer(config)


def _check_corruptions(config: configure.ConfigDict) -> None:
  if not config.evaluate.corruptions:
    return
  try:
    corruptions.expand(config.evaluate.corruptions)
  except errors.UserError as error:
    raise errors.UserError(f"evaluate.corruptions: {error}") from error
  reads = build.dataset(config).reads
  if reads != "images":
    raise errors.UserError(
      f"evaluate.corruptions={tuple(config.evaluate.corruptions)!r}:"
      f" data {config.data.name!r} gives {reads}; only images can be"
      " corrupted."
    )
