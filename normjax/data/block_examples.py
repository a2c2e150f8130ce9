"""Examples in memory that are trained on in blocks of one domain, as a set."""

import dataclasses
import functools
from typing import Any

import numpy as np

from normjax import errors, rng
from normjax.data import blocks, dataset, examples, splits

CONTROLS = "controls"  # The part of a batch: (blocks times controls, …).


@dataclasses.dataclass(frozen=True)
class Plan:
  """What a training batch is made of.

  Attributes:
    num_blocks: of a batch.
    size: queries of a block.
    num_controls: of each block; 0: batches have no such part.
    control_class: whose examples are the controls, and no queries; -1: none.
    of_one_domain: whether a block is, or is drawn from all of them.
  """

  num_blocks: int
  size: int
  num_controls: int = 0
  control_class: int = -1
  of_one_domain: bool = True


@dataclasses.dataclass(frozen=True)
class BlockExamples(examples.Examples):
  """Examples whose training batches are blocks, one after the other.

  Attributes:
    plan: of a batch.
  """

  plan: Plan = Plan(1, 1)

  def grouped(self, split: str) -> blocks.Domains:
    """The examples of a split, as stored, by domain."""
    inputs, labels = getattr(self, split)
    domains = self.domains_of(split, np.arange(len(labels)))
    assert domains is not None  # See `of`.
    control = self.plan.control_class
    is_control = None if control < 0 else np.asarray(labels) == control
    return blocks.Domains(inputs, labels, domains, is_control)

  @functools.cached_property
  def _grouped(self) -> blocks.Domains:
    return self.grouped(splits.TRAIN)

  @functools.cached_property
  def _sampler(self) -> blocks.Sampler:
    return blocks.Sampler(
      self._grouped,
      self.plan.size,
      num_controls=self.plan.num_controls,
      per_step=self.plan.num_blocks,
      of_one_domain=self.plan.of_one_domain,
    )

  def train_rows(
    self, seed: int, step: int, batch_size: int, rows: slice
  ) -> dataset.Batch:
    """The blocks of step `step`; of another size, plain examples."""
    if batch_size != self.plan.size * self.plan.num_blocks:
      return super().train_rows(seed, step, batch_size, rows)
    generator = np.random.default_rng((rng.host_seed(seed, "context"), step))
    drawn = self._sampler.draw(generator)
    queries = np.concatenate([block.queries for block in drawn])
    batch = self.of_training(queries[rows])
    if self.plan.num_controls:
      controls = np.concatenate([block.controls for block in drawn])
      batch[CONTROLS] = self.of_training(controls)["inputs"]
    return batch


def of(made: Any, plan: Plan) -> BlockExamples:
  """A data set in blocks.

  Args:
    made: of labelled examples in memory that say their domains.
    plan: of a batch.

  Raises:
    UserError: another kind of data set; a control class that there is not; a
      domain without a query, or without a control that is asked for.
  """
  if not isinstance(made, examples.Examples) or made.targets != "classes":
    raise errors.UserError(
      f"data {made.name!r}: blocks are drawn from examples in memory with"
      " classes as targets, as arrays, image sets and small tables are."
    )
  if not made.num_domains:
    raise errors.UserError(
      f"data {made.name!r} says of no example which domain it is from: set an"
      " option such as data.domains or data.domain_column where it has one."
    )
  if plan.control_class >= made.num_classes:
    raise errors.UserError(
      f"data {made.name!r} has the classes 0 to {made.num_classes - 1}; none is"
      f" {plan.control_class}."
    )
  fields = {
    field.name: getattr(made, field.name)
    for field in dataclasses.fields(examples.Examples)
  }
  found = BlockExamples(**{**fields, "folds": (), "plan": plan})
  _ = found._sampler  # Says what is missing.
  return found
