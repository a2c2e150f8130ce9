"""Directional derivatives of functions that have rules for reverse mode alone.

A norm or a kernel with a `jax.custom_vjp` refuses forward mode. Its rule is how
it keeps less for a backward pass, of which there is none here: the function
inside is differentiated in its place.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from normjax.types import Array, PyTree


def derivative(
  function: Callable[[Array], tuple[Array, PyTree]], t: Array
) -> tuple[Array, PyTree]:
  """f'(t) of a scalar, and what f returns beside it.

  Args:
    function: t -> (f(t), anything).
    t: a scalar.
  """
  traced, shapes = jax.make_jaxpr(function, return_shape=True)(t)

  def values(t: Array) -> tuple[Array, PyTree]:
    found = _evaluate(traced, [t])
    return jax.tree.structure(shapes).unflatten(found)

  _, slope, beside = jax.jvp(values, (t,), (jnp.ones_like(t),), has_aux=True)
  return slope, beside


def _evaluate(jaxpr: core.Jaxpr, arguments: Sequence[Any]) -> list[Any]:
  """The jaxpr's values, without the rules that it has for reverse mode."""
  known: dict[Any, Any] = {}

  def read(atom: Any) -> Any:
    return atom.val if isinstance(atom, core.Literal) else known[atom]

  known.update(zip(jaxpr.constvars, jaxpr.consts, strict=True))
  known.update(zip(jaxpr.invars, arguments, strict=True))
  for equation in jaxpr.eqns:
    given = [read(atom) for atom in equation.invars]
    if equation.primitive.name == "custom_vjp_call":
      found = _evaluate(equation.params["call_jaxpr"], given)
    else:
      params = {k: _without(v) for k, v in equation.params.items()}
      options = equation.primitive.get_bind_params(params)
      with equation.ctx.manager:
        found = equation.primitive.bind(*given, **options)
      if not equation.primitive.multiple_results:
        found = [found]
    known.update(zip(equation.outvars, found, strict=True))
  return [read(atom) for atom in jaxpr.outvars]


def _without(value: Any) -> Any:
  """An equation's parameter: what is traced in it, without such rules."""
  if isinstance(value, tuple | list):
    new = [_without(each) for each in value]
    same = all(a is b for a, b in zip(new, value, strict=True))
    return value if same else type(value)(new)
  if not isinstance(value, core.Jaxpr) or not _has_rules(value):
    return value
  shapes = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in value.in_avals]
  return jax.make_jaxpr(lambda *given: _evaluate(value, given))(*shapes)


def _has_rules(jaxpr: core.Jaxpr) -> bool:
  return any(
    equation.primitive.name == "custom_vjp_call"
    or any(map(_has_rules, _inner(equation.params.values())))
    for equation in jaxpr.eqns
  )


def _inner(values: Iterable[Any]) -> Iterator[core.Jaxpr]:
  for value in values:
    if isinstance(value, core.Jaxpr):
      yield value
    elif isinstance(value, tuple | list):
      yield from _inner(value)
