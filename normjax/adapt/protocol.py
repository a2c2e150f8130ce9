"""What a stream is: domains, the order of their examples, when to begin anew.

The settings are those of Tomar et al. 2024 (UnMix-TNS), arXiv:2401.08328.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from normjax import errors, rng, validate
from normjax.data import streams

_CORRELATED = "_correlated"
# Name -> (whether the model begins anew with each domain, whether domains are
# mixed).
SETTINGS: Mapping[str, tuple[bool, bool]] = {
  "reset_each_shift": (True, False),
  "continual": (False, False),
  "mixed_domains": (False, True),
}
NAMES = (*SETTINGS, *(f"{name}{_CORRELATED}" for name in SETTINGS))


class Examples(NamedTuple):
  """Labelled examples of one domain.

  Attributes:
    inputs: (n, …), as the model reads them.
    targets: (n,) integers.
  """

  inputs: np.ndarray
  targets: np.ndarray


class Batch(NamedTuple):
  """A batch of a stream.

  Attributes:
    inputs: (b, …).
    targets: (b,), for the score alone.
    domains: (b,), numbers of domains.
  """

  inputs: np.ndarray
  targets: np.ndarray
  domains: np.ndarray


class Segment(NamedTuple):
  """What comes between two shifts.

  Attributes:
    name: of its domain, or "mixed".
    begins_anew: whether the model is set back before it.
    batches: in order.
  """

  name: str
  begins_anew: bool
  batches: list[Batch]


@dataclasses.dataclass(frozen=True)
class Protocol:
  """How a stream is made of domains.

  Attributes:
    setting: one of `NAMES`: "reset_each_shift", "continual" (domain after
      domain, without a reset) or "mixed_domains", each also "…_correlated":
      examples of a class come together.
    batch_size: the last batch of a segment may be smaller.
    concentration: of `streams.correlated`; towards 0 sorted by class.
    seed: of the order.
    drop_remainder: whether that smaller batch is left out.
    passes: how often the segment is gone through; the last pass is scored.
  """

  setting: str = "reset_each_shift"
  batch_size: int = 64
  concentration: float = 0.1
  seed: int = 0
  drop_remainder: bool = False
  passes: int = 1

  def __post_init__(self) -> None:
    """Raises UserError where a value is not allowed."""
    validate.choice("stream", "setting", self.setting, NAMES)
    validate.count("stream", "batch_size", self.batch_size, 1)
    validate.number("stream", "concentration", self.concentration, above=0)
    validate.count("stream", "seed", self.seed, 0)
    validate.count("stream", "passes", self.passes, 1)

  def segments(self, domains: Mapping[str, Examples]) -> Iterator[Segment]:
    """The stream, segment by segment.

    Args:
      domains: by name, in the order of the shifts.

    Raises:
      UserError: what `batch_sizes` raises.
    """
    self.batch_sizes(domains)
    resets, _ = self._setting
    first = 0
    for name, members in self._parts(domains).items():
      yield Segment(name, resets, self._batches(name, members, first))
      first += len(members)

  def batch_sizes(self, domains: Mapping[str, Examples]) -> list[int]:
    """The sizes that batches of `segments` have, the largest first.

    Args:
      domains: as of `segments`.

    Raises:
      UserError: no domain, one without examples, or batches that are larger
        than all there is, where they must be whole.
    """
    if not domains:
      raise errors.UserError("stream: no domains; needed: one or more.")
    for name, each in domains.items():
      if not len(each.targets):
        raise errors.UserError(f"stream: domain {name!r} has no examples.")
    found = set()
    for name, members in self._parts(domains).items():
      count = sum(len(each.targets) for each in members)
      if count >= self.batch_size:
        found.add(self.batch_size)
      elif self.drop_remainder:
        raise errors.UserError(
          f"stream: {count} examples of {name!r} make no whole batch of"
          f" {self.batch_size}: take a smaller batch_size, or keep the"
          " remainder."
        )
      rest = count % self.batch_size
      if rest and not self.drop_remainder:
        found.add(rest)
    return sorted(found, reverse=True)

  @property
  def _setting(self) -> tuple[bool, bool]:
    return SETTINGS[self.setting.removesuffix(_CORRELATED)]

  def _parts(
    self, domains: Mapping[str, Examples]
  ) -> Mapping[str, list[Examples]]:
    """The domains of each segment, by its name."""
    _, is_mixed = self._setting
    if is_mixed:
      return {"mixed": list(domains.values())}
    return {name: [each] for name, each in domains.items()}

  def _batches(
    self, name: str, members: list[Examples], first: int
  ) -> list[Batch]:
    inputs, targets = (
      np.concatenate([getattr(m, part) for m in members])
      for part in Examples._fields
    )
    numbers = np.repeat(
      np.arange(first, first + len(members)), [len(m.targets) for m in members]
    )
    seed = rng.host_seed(self.seed, f"stream/{name}")
    if self.setting.endswith(_CORRELATED):
      order = streams.correlated(targets, self.concentration, seed)
    else:
      order = np.random.default_rng(seed).permutation(len(targets))
    cut = streams.batches(order, self.batch_size)
    if self.drop_remainder and len(cut[-1]) < self.batch_size:
      cut = cut[:-1]
    return [Batch(inputs[i], targets[i], numbers[i]) for i in cut]


def gather(dataset: Any, num_examples: int | None = None) -> Examples:
  """The examples that a data set evaluates on, without padding.

  Args:
    dataset: gives `evaluation_batches`; all of them are held in memory.
    num_examples: at most so many.

  Raises:
    UserError: several targets per example.
  """
  size = 256
  most = None if num_examples is None else -(-num_examples // size)
  inputs, targets = [], []
  for batch in dataset.evaluation_batches(size, most):
    is_real = batch["weight"] > 0
    if is_real.ndim != 1:
      raise errors.UserError(
        f"stream: data {dataset.name!r} has targets of shape"
        f" {batch['targets'].shape}; needed: a class per example."
      )
    inputs.append(batch["inputs"][is_real])
    targets.append(batch["targets"][is_real])
  return Examples(
    np.concatenate(inputs)[:num_examples],
    np.concatenate(targets)[:num_examples],
  )
