"""Orders in which examples arrive: correlated labels, domains, tasks.

order = correlated(labels, concentration=0.1, seed=0)
for index in batches(order, 64):
  inputs[index], labels[index]

Pure functions from labels to indices, for adaptation at test time and for
continual learning; `Examples.in_order` evaluates along one.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from normjax import errors, rng, validate


class Task(NamedTuple):
  """A step of class-incremental learning.

  Attributes:
    classes: the labels that it brings.
    index: of its examples.
  """

  classes: np.ndarray
  index: np.ndarray


def batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
  """The order cut into batches; the last may be smaller.

  Raises:
    UserError: `batch_size` is less than 1.
  """
  validate.count("batches", "batch_size", batch_size, 1)
  return [
    order[start : start + batch_size]
    for start in range(0, len(order), batch_size)
  ]


def correlated(
  labels: np.ndarray | Sequence[int],
  concentration: float = 0.1,
  seed: int = 0,
  *,
  num_slots: int | None = None,
  balanced: bool = True,
  shuffle_slots: bool = False,
) -> np.ndarray:
  """An order in which examples of a class come together.

      q_k ~ Dirichlet(concentration, …) over the slots of time,
      class k gives slot s a part q_ks of its examples

  Slots follow one another, and in a slot one class after the other. Gong et
  al. 2022 (NOTE), arXiv:2208.05117, whose code draws all anew until
  each slot has ten examples; here a slot may be empty. `balanced=False` is the
  rule of Yuan et al. 2023 (RoTTA), arXiv:2303.13899.

  Args:
    labels: (n,) integers.
    concentration: towards 0 the order is sorted by class; towards infinity
      each slot has the same part of each class.
    seed: of all that is drawn.
    num_slots: the number of classes unless given.
    balanced: a slot that has n / num_slots examples gets no further class.
    shuffle_slots: whether a slot's classes are mixed; with an infinite
      concentration the order is then a plain shuffle, but for equal parts.

  Returns:
    (n,) int64, each index once.

  Raises:
    UserError: `labels` are not a vector of integers, or an option is out of
      range.
  """
  labels = _labels("correlated", labels)
  if not concentration > 0:
    validate.refuse(
      "correlated", "concentration", concentration, "a number > 0"
    )
  classes = np.unique(labels)
  num_slots = len(classes) if num_slots is None else num_slots
  validate.count("correlated", "num_slots", num_slots, 1)
  generator = np.random.default_rng(rng.host_seed(seed, "correlated"))
  slots: list[list[np.ndarray]] = [[] for _ in range(num_slots)]
  filled = np.zeros(num_slots, np.int64)
  for label in classes:
    members = generator.permutation(np.flatnonzero(labels == label))
    is_open = filled < len(labels) / num_slots if balanced else True
    parts = _parts(generator, concentration, num_slots, is_open)
    cuts = (np.cumsum(parts)[:-1] * len(members)).astype(int)
    for slot, chosen in enumerate(np.split(members, cuts)):
      slots[slot].append(chosen)
      filled[slot] += len(chosen)
  order = [np.zeros(0, np.int64)]
  for slot in slots:
    runs = [slot[k] for k in generator.permutation(len(slot))]
    together = np.concatenate([np.zeros(0, np.int64), *runs])
    order.append(generator.permutation(together) if shuffle_slots else together)
  return np.concatenate(order)


def _parts(generator, concentration, num_slots, is_open) -> np.ndarray:
  """A class's parts of the open slots; one is always open."""
  total = 0.0
  while not total > 0:  # A small concentration may put all into a full slot.
    parts = generator.dirichlet(np.full(num_slots, concentration)) * is_open
    total = parts.sum()
  return parts / total


def by_domain(
  domains: np.ndarray | Sequence[int],
  seed: int = 0,
  *,
  mixed: bool = False,
  labels: np.ndarray | Sequence[int] | None = None,
  concentration: float = 0.1,
) -> np.ndarray:
  """Domain after domain, or all of them mixed.

  The settings "continual" and "mixed domains" of Tomar et al. 2024
  (UnMix-TNS), arXiv:2401.08328; with labels, their correlated variants.

  Args:
    domains: (n,) integers; domains come in the order of their first examples.
    seed: of all that is drawn.
    mixed: whether domains are mixed.
    labels: (n,); where given, labels are correlated, in each domain or, where
      domains are mixed, in all.
    concentration: of `correlated`.

  Returns:
    (n,) int64, each index once.

  Raises:
    UserError: `domains` are not a vector of integers, or `labels` are others.
  """
  domains = _labels("by_domain", domains)
  if labels is not None:
    labels = _labels("by_domain", labels)
    if len(labels) != len(domains):
      raise errors.UserError(
        f"by_domain: {len(labels)} labels for {len(domains)} domains."
      )
  _, first = np.unique(domains, return_index=True)
  groups = [np.flatnonzero(domains == domains[i]) for i in sorted(first)]
  if mixed:
    groups = [np.arange(len(domains))]
  order = [np.zeros(0, np.int64)]
  for number, group in enumerate(groups):
    own_seed = rng.host_seed(seed, f"domain/{number}")
    if labels is None:
      order.append(np.random.default_rng(own_seed).permutation(group))
    else:
      inner = correlated(labels[group], concentration, own_seed)
      order.append(group[inner])
  return np.concatenate(order)


def split_classes(
  labels: np.ndarray | Sequence[int],
  num_tasks: int,
  seed: int | None = 0,
) -> list[Task]:
  """Tasks of as many classes each, for class-incremental learning.

  As in split CIFAR-10, 5 tasks of 2 classes.

  Args:
    labels: (n,) integers.
    num_tasks: must divide the number of classes.
    seed: of the order of classes and of each task's examples; None keeps
      both sorted.

  Raises:
    UserError: `labels` are not a vector of integers, or do not split.
  """
  labels = _labels("split_classes", labels)
  validate.count("split_classes", "num_tasks", num_tasks, 1)
  classes = np.unique(labels)
  if len(classes) % num_tasks:
    raise errors.UserError(
      f"split_classes: num_tasks={num_tasks} does not divide the"
      f" {len(classes)} classes."
    )
  generator = None
  if seed is not None:
    generator = np.random.default_rng(rng.host_seed(seed, "tasks"))
    classes = generator.permutation(classes)
  tasks = []
  for chosen in np.split(classes, num_tasks):
    index = np.flatnonzero(np.isin(labels, chosen))
    if generator is not None:
      index = generator.permutation(index)
    tasks.append(Task(chosen, index))
  return tasks


def _labels(function: str, labels: np.ndarray | Sequence[int]) -> np.ndarray:
  array = np.asarray(labels)
  if array.ndim != 1 or not (
    np.issubdtype(array.dtype, np.integer) or array.size == 0
  ):
    raise errors.UserError(
      f"{function}: a vector of integers is needed; got shape {array.shape},"
      f" {array.dtype}."
    )
  return array
