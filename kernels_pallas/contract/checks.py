"""The checks: each takes a case and raises AssertionError."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernels_pallas.contract.cases import Case
from kernels_pallas.contract.sample import values

_MEMBERS = 2


def check_values(case: Case) -> None:
  """Results and gradients are the truth's, and the same each time."""
  sample = case.sample
  run = jax.jit(values(case.function, sample.spec))
  first = run(sample.arguments, sample.cotangents)
  sample.check(first)
  again = run(sample.arguments, sample.cotangents)
  jax.tree.map(np.testing.assert_array_equal, first, again)


def check_members(case: Case) -> None:
  """Under `vmap` each member of a population has results of its own."""
  members = [
    dataclasses.replace(case.sample, seed=seed) for seed in range(_MEMBERS)
  ]
  arguments, cotangents = jax.tree.map(
    lambda *each: jnp.stack(each),
    *((member.arguments, member.cotangents) for member in members),
  )
  run = jax.jit(jax.vmap(values(case.function, case.sample.spec)))
  together = run(arguments, cotangents)
  for n, member in enumerate(members):
    member.check([value[n] for value in together])


def check_shared(case: Case) -> None:
  """Under `vmap` over the rows alone the other arguments are shared.

  Of an op without rows: over what it overwrites.
  """
  sample = case.sample
  rows = sample.op.rows or sample.contract.donated
  twice = [
    jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), x) if n in rows else x
    for n, x in enumerate(sample.arguments)
  ]
  axes = [0 if n in rows else None for n in range(len(twice))]
  function = functools.partial(case.function, **sample.spec.options)
  together = jax.tree.leaves(jax.jit(jax.vmap(function, axes))(*twice))
  for n in range(2):
    sample.check([value[n] for value in together])


def check_donation(case: Case) -> None:
  """The results may take the arguments' memory."""
  sample = case.sample
  donated = sample.contract.donated
  run = jax.jit(
    lambda *arguments: case.function(*arguments, **sample.spec.options),
    donate_argnums=donated,
  )
  given: list[Any] = jax.tree.map(jnp.copy, list(sample.arguments))
  sample.check(jax.tree.leaves(run(*given)))
  taken = jax.tree.leaves([given[n] for n in donated])
  assert all(x.is_deleted() for x in taken)


CHECKS = {
  "values": check_values,
  "members": check_members,
  "shared": check_shared,
  "donation": check_donation,
}
