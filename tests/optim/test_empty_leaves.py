"""Leaves without entries pass through every optimizer and wrapper."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from normjax import optim
from tests.contracts.optimizer_contract import gradients_like
from tests.optim import cases

EMPTY = {
  "flat": {"bias": (0,)},
  "rows": {"kernel": (0, 16)},
  "columns": {"kernel": (16, 0)},
  "embed": {"embedding": (0, 8)},
  "layers": {"mlp": {"kernel": (3, 0, 5)}},
  "stack": {"mlp": {"kernel": (0, 5, 3)}},
}


def _tree(dtype=jnp.float32):
  rng = np.random.default_rng(0)
  shapes = {"mlp": {"kernel": (4, 6), "bias": (6,)}, "norm": {"scale": (4,)}}
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.normal(size=shape), dtype),
    shapes,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def _empty(dtype):
  return jax.tree.map(
    lambda shape: jnp.zeros(shape, dtype),
    EMPTY,
    is_leaf=lambda node: isinstance(node, tuple),
  )


def _update(tx, params, gradients):
  return tx.update(gradients, tx.init(params), params)


def _assert_pass_through(tx, dtype=jnp.float32):
  empty = {"empty": _empty(dtype)}
  params = _tree(dtype) | empty
  out, state = jax.eval_shape(lambda p: _update(tx, p, p), params)
  like = jax.eval_shape(lambda: params)
  assert out == like
  # And again, from the state that came out.
  again, after = jax.eval_shape(tx.update, like, state, like)
  assert (again, after) == (like, state)


@pytest.mark.parametrize("case", cases.first_cases(), ids=str)
def test_pass_through(case):
  _assert_pass_through(case.make(), jnp.bfloat16)


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
def test_pass_through_in_float32(case):
  """Where no dtype is widened."""
  _assert_pass_through(case.make(), jnp.float32)


@pytest.mark.parametrize("case", cases.by_family(), ids=str)
def test_others_move_as_without_them(case):
  params = _tree()
  gradients = gradients_like(params)
  empty = {"empty": _empty(jnp.float32)}

  @jax.jit
  def both(params, gradients):
    alone, _ = _update(case.make(), params, gradients)
    beside, _ = _update(case.make(), params | empty, gradients | empty)
    return alone, beside

  alone, beside = both(params, gradients)
  del beside["empty"]
  jax.tree.map(np.testing.assert_array_equal, beside, alone)


@pytest.mark.parametrize("name", optim.names())
def test_described(name):
  described = optim.describe(name, _tree() | {"empty": _empty(jnp.float32)})
  assert "empty/rows/kernel" in described


@pytest.mark.parametrize(
  "tx",
  [
    optim.quantize_state(optax.adam(0.1), min_size=0),
    optim.quantize_state(optax.adam(0.1), min_size=0, block_layout="flat"),
    optim.normalize_and_project(optax.sgd(0.1), vectors="normalize"),
    optim.normalize_and_project(optax.sgd(0.1), per="unit", vectors="decay"),
    optim.sign_constrained(optax.sgd(0.1), None),
    optim.adaptive_grad_clip(exempt=None),
    optim.scale_by_multi_norm(["row_l2", "spectral", "frobenius", "sign"]),
    optim.scale_by_path([(".*", 0.5)]),
    optim.scale_by_gradient_norm(),
    optim.scale_by_trust_ratio(),
    optim.adam_8bit(0.1, min_size=0, keep=None),
    optim.muon(0.1, mask=None),
  ],
)
def test_wrappers(tx):
  _assert_pass_through(tx)


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)])
@pytest.mark.parametrize(
  "function",
  [
    lambda x: optim.whiten(x[None])[0],
    lambda x: optim.orthogonalize(x[None])[0],
    lambda x: optim.sinkhorn(x, optim.MatrixDims(0, 1)),
    lambda x: optim.dequantize_blockwise(optim.quantize_blockwise(x)),
  ],
)
def test_functions(function, shape):
  assert jax.eval_shape(function, jnp.zeros(shape)).shape == shape
