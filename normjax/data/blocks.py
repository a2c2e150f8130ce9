"""Batches by domain, for training and for evaluation, as indices.

A block is what is normalized together: queries of one domain, and controls of
the same one. Controls are examples whose class is known beforehand and is no
answer, as untreated cells are on every plate.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np

from normjax import errors, rng, validate

Order = Literal["mixed", "sorted"]
ORDERS: tuple[Order, ...] = ("mixed", "sorted")


class Domains(NamedTuple):
  """Examples of several domains.

  Attributes:
    inputs: (n, …).
    labels: (n,), integers from 0; those of controls are not read.
    domains: (n,), integers.
    is_control: (n,), booleans; None where there are none.
  """

  inputs: np.ndarray
  labels: np.ndarray
  domains: np.ndarray
  is_control: np.ndarray | None = None

  def members(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Of each domain its queries and its controls.

    Raises:
      UserError: no example, parts of other lengths or types, or a domain
        without a query.
    """
    size = len(self.inputs)
    if not size:
      raise errors.UserError("Domains: inputs are empty; needed: an example.")
    control = self.is_control
    control = np.zeros(size, bool) if control is None else np.asarray(control)
    for name, part in (
      ("labels", self.labels),
      ("domains", self.domains),
      ("is_control", control),
    ):
      if np.shape(part) != (size,):
        raise errors.UserError(
          f"Domains: {name} has the shape {np.shape(part)}; needed: one per"
          f" input, ({size},)."
        )
    if control.dtype != bool:
      raise errors.UserError(
        f"Domains: is_control is {control.dtype}; needed: booleans."
      )
    if not np.issubdtype(np.asarray(self.domains).dtype, np.integer):
      raise errors.UserError(
        f"Domains: domains are {np.asarray(self.domains).dtype}; needed:"
        " integers."
      )
    found = {}
    for domain in np.unique(self.domains).tolist():
      own = np.flatnonzero(self.domains == domain)
      found[domain] = own[~control[own]], own[control[own]]
      if not len(found[domain][0]):
        raise errors.UserError(f"Domains: domain {domain} has controls alone.")
    return found


class Block(NamedTuple):
  """What is normalized together, as indices.

  Attributes:
    domain: of all; -1 of mixed ones.
    queries: (b,).
    controls: (m,).
    num_new: how many of the queries, at the end, were in no block before.
  """

  domain: int
  queries: np.ndarray
  controls: np.ndarray
  num_new: int


def sampled(
  examples: Domains,
  size: int,
  seed: int,
  *,
  num_controls: int = 0,
  per_step: int = 1,
  uniform: bool = True,
  of_one_domain: bool = True,
) -> Iterator[list[Block]]:
  """Training batches of an epoch: of each step `per_step` blocks.

  The sampler of ARM: domains are drawn anew for each block, its queries from
  the domain with replacement, as many steps as whole ones fit the queries.

  Args:
    examples: see `Domains`.
    size: queries per block.
    seed: of all draws.
    num_controls: per block; drawn with replacement where the domain has no
      more than that.
    per_step: blocks per step.
    uniform: whether domains are equally likely, or by their sizes.
    of_one_domain: False draws the queries of a block from all domains; such a
      block has no controls.

  Raises:
    UserError: a number out of range, or a domain without the controls that are
      asked for.
  """
  sampler = Sampler(
    examples,
    size,
    num_controls=num_controls,
    per_step=per_step,
    uniform=uniform,
    of_one_domain=of_one_domain,
  )
  generator = np.random.default_rng(rng.host_seed(seed, "context"))
  for _ in range(sampler.steps_per_epoch):
    yield sampler.draw(generator)


class Sampler:
  """Draws the blocks of a training step; see `sampled`."""

  def __init__(
    self,
    examples: Domains,
    size: int,
    *,
    num_controls: int = 0,
    per_step: int = 1,
    uniform: bool = True,
    of_one_domain: bool = True,
  ):
    """Looks once for the members of each domain.

    Raises:
      UserError: see `sampled`.
    """
    validate.counts("sampled", size=size, per_step=per_step)
    validate.count("sampled", "num_controls", num_controls, least=0)
    self._members = examples.members()
    _check_controls(self._members, num_controls)
    self._size, self._per_step = size, per_step
    self._num_controls, self._of_one_domain = num_controls, of_one_domain
    sizes = np.array([len(own) for own, _ in self._members.values()])
    self._names = list(self._members)
    self._share = None if uniform else sizes / sizes.sum()
    self._every = np.concatenate([own for own, _ in self._members.values()])

  @property
  def steps_per_epoch(self) -> int:
    """As many as whole ones fit the queries."""
    return len(self._every) // (self._size * self._per_step)

  def draw(self, generator: np.random.Generator) -> list[Block]:
    """The blocks of the next step."""
    return [self._block(generator) for _ in range(self._per_step)]

  def _block(self, generator: np.random.Generator) -> Block:
    every, size = self._every, self._size
    if not self._of_one_domain:
      chosen = generator.choice(every, size, replace=len(every) < size)
      return Block(-1, chosen, every[:0], size)
    domain = self._names[generator.choice(len(self._names), p=self._share)]
    queries, controls = self._members[domain]
    chosen = generator.choice(queries, size)
    drawn = _controls(generator, controls, self._num_controls)
    return Block(domain, chosen, drawn, size)


def queries(
  examples: Domains,
  size: int,
  seed: int,
  *,
  order: Order = "mixed",
  num_controls: int = 0,
) -> list[Block]:
  """Evaluation: each query once, in blocks of `size` of one domain.

  The last block of a domain is filled up with queries of the one before, which
  do not count again: a rest of one query would have other statistics.

  Args:
    examples: see `Domains`.
    size: queries per block; all of a domain that has fewer.
    seed: of the order and of the controls.
    order: "mixed" labels, or "sorted" ones: class after class within a domain.
    num_controls: per block, as in `sampled`.

  Raises:
    UserError: see `sampled`; an order that there is not.
  """
  validate.count("queries", "size", size, least=1)
  validate.choice("queries", "order", order, ORDERS)
  validate.count("queries", "num_controls", num_controls, least=0)
  members = examples.members()
  _check_controls(members, num_controls)
  generator = np.random.default_rng(rng.host_seed(seed, "queries"))
  blocks = []
  for domain, (own, controls) in members.items():
    own = generator.permutation(own)
    if order == "sorted":
      own = own[np.argsort(examples.labels[own], kind="stable")]
    for start in range(0, len(own), size):
      end = min(start + size, len(own))
      drawn = _controls(generator, controls, num_controls)
      chosen = own[max(end - size, 0) : end]
      blocks.append(Block(domain, chosen, drawn, end - start))
  return blocks


def _controls(
  generator: np.random.Generator, own: np.ndarray, count: int
) -> np.ndarray:
  if not count:
    return own[:0]
  return generator.choice(own, count, replace=len(own) <= count)


def _check_controls(
  members: dict[int, tuple[np.ndarray, np.ndarray]], count: int
) -> None:
  without = [domain for domain, (_, own) in members.items() if not len(own)]
  if count and without:
    raise errors.UserError(
      f"num_controls={count}: there are no controls in domains"
      f" {errors.few([str(domain) for domain in without])}; needed: one or more"
      " in each."
    )
