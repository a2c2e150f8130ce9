"""What can be refused before anything is paid for."""

from typing import Any

from normjax import (
  build,
  configure,
  errors,
  fields,
  objectives,
  optim,
  procedures,
)
from normjax.data import corruptions
from normjax.imports import is_outside
from normjax.nn import linear
from normjax.record import probes, sinks
from normjax.train import (
  average,
  block_gradients,
  evaluate,
  gradient,
  layer_decay,
  mixup,
  schedules,
)


def check(config: configure.ConfigDict) -> None:
  """Builds all that is cheap to build, to fail before anything is paid.

  The model is left out: `preview.preview` and `program.check_start` build it,
  in shapes alone.

  Raises:
    UserError: a value that no run can use; the message names the key.
  """
  fields.check(config)
  probes.check(config.log.probes)
  schedules.of_config(config)
  sinks.fill(config.log.get("wandb_name", ""), configure.to_dict(config))
  _check_schedule(config.schedule)
  _check_restarts(config)
  _check_batch(config)
  build.start_steps(config)
  _check_corruptions(config)
  _check_mixup(config)
  _check_procedures(config)
  average.check(config)
  block_gradients.check(config)
  gradient.of(config)
  layer_decay.check(config)
  _check_factors(config)
  build.optimizer(config)
  build.evaluation_dataset(config)
  build.metrics(config)


def _check_factors(config: configure.ConfigDict) -> None:
  text = config.model.get("linear", "dense")
  name = config.optimizer.name
  if optim.keeps_norms(name) and not linear.resolve(text).has_kernel:
    raise errors.UserError(
      f"model.linear={text!r}: optimizer {name!r} puts matrices back to a"
      " norm, and here are factors of them, one of which starts at zero;"
      " allowed: 'dense'."
    )


def _check_schedule(schedule: Any) -> None:
  rise, fall = schedule.warmup_fraction, schedule.decay_fraction
  if schedule.name == "wsd" and rise + fall > 1:
    raise errors.UserError(
      f"schedule.warmup_fraction={rise} and schedule.decay_fraction={fall}"
      " overlap: of 'wsd', their sum is at most 1."
    )
  if (schedule.name == "step_decay") != bool(schedule.get("milestones")):
    raise errors.UserError(
      f"schedule.milestones={tuple(schedule.get('milestones', ()))} with"
      f" schedule.name={schedule.name!r}: they are of 'step_decay', which needs"
      " some, as in (0.5, 0.75)."
    )


def _check_restarts(config: configure.ConfigDict) -> None:
  """Refuses a learning rate that would not have risen when it restarts."""
  asked = {
    path: configure.optional(config, path)
    for path in (schedules.RESTART_EVERY, schedules.RESTART_WARMUP_STEPS)
  }
  name, restarts = config.schedule.name, schedules.RESTARTS
  if name != restarts:
    for path, value in asked.items():
      if value and not is_outside(name):
        raise errors.UserError(
          f"{path}={value} with schedule.name={name!r}: it is of {restarts!r};"
          " allowed: 0."
        )
    return
  path = schedules.RESTART_WARMUP_STEPS
  steps = asked[path]
  timing = schedules.restarts_of(config)
  if not 1 <= steps < timing.every:
    raise errors.UserError(
      f"{path}={steps} with schedule.name={name!r}; allowed: 1 to"
      f" {timing.every - 1}, below the {timing.every} steps of a cycle."
    )
  rise = config.schedule.warmup_fraction * config.train.num_steps
  first = timing.every - timing.adjust_steps
  if rise > first:
    raise errors.UserError(
      f"schedule.warmup_fraction={config.schedule.warmup_fraction} of"
      f" train.num_steps={config.train.num_steps} are {rise:g} steps; of"
      f" {name!r} at most {first}, where the first restart is."
    )


def _check_batch(config: configure.ConfigDict) -> None:
  batch_size = config.train.batch_size
  if batch_size % config.train.accumulation_steps:
    raise errors.UserError(
      f"train.batch_size={batch_size} is not a multiple of"
      f" train.accumulation_steps={config.train.accumulation_steps}."
    )
  # What is drawn anew each time has no number of examples.
  size = getattr(build.dataset(config), "num_train_examples", None)
  if size is not None and batch_size > size:
    raise errors.UserError(
      f"train.batch_size={batch_size} is more than the {size} examples that"
      f" data {config.data.name!r} has to train on."
    )


def _check_procedures(config: configure.ConfigDict) -> None:
  procedures.check_unread(config)
  asked = procedures.of(config)
  if not asked:
    return
  learning = [each.block for each in asked if each.learns]
  if len(learning) > 1:
    raise errors.UserError(
      f"{' and '.join(learning)} both say what a step learns from; allowed: one"
      " of the two."
    )
  data = build.dataset(config)
  for procedure in asked:
    procedure.check(data)


def _check_mixup(config: configure.ConfigDict) -> None:
  flat = dict(configure.leaves(configure.to_dict(config)))
  alphas = [path for path in mixup.ALPHAS if path in flat]
  for path in (mixup.PROBABILITY, mixup.SWITCH, mixup.MODE):
    # The switch is between the two.
    needed, word = (2, "and") if path == mixup.SWITCH else (1, "or")
    if path in flat and len(alphas) < needed:
      raise errors.UserError(
        f"{path}={flat[path]!r}: nothing reads it without"
        f" {f' {word} '.join(mixup.ALPHAS)} above 0."
      )
  if not alphas:
    return
  given, data = f"{alphas[0]}={flat[alphas[0]]!r}", build.dataset(config)
  if (data.reads, data.targets) != ("images", "classes"):
    raise errors.UserError(
      f"{given}: data {config.data.name!r} gives {data.reads} with targets that"
      f" are {data.targets}; only images with classes are mixed. Allowed: 0."
    )
  if config.train.batch_size % 2:
    raise errors.UserError(
      f"{given}: train.batch_size={config.train.batch_size} must be even; the"
      " example in the middle would be mixed with itself."
    )


def _check_corruptions(config: configure.ConfigDict) -> None:
  if not config.evaluate.corruptions:
    return
  try:
    corruptions.expand(config.evaluate.corruptions)
  except errors.UserError as error:
    raise errors.UserError(f"evaluate.corruptions: {error}") from error
  # Only a call of a function tells what it measures beside the loss.
  means = build.objective(config).means or (objectives.LOSS,)
  if missing := sorted({*evaluate.CORRUPTED} - {*means}):
    raise errors.UserError(
      f"evaluate.corruptions={tuple(config.evaluate.corruptions)!r} needs"
      f" {' and '.join(missing)}, which the objective does not measure; it"
      f" measures {', '.join(means)}."
    )
  reads = build.dataset(config).reads
  if reads != "images":
    raise errors.UserError(
      f"evaluate.corruptions={tuple(config.evaluate.corruptions)!r}:"
      f" data {config.data.name!r} gives {reads}; only images can be"
      " corrupted."
    )
