"""Every implementation of attention against float64 NumPy, and why not."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import aot, dispatch
from kernels_pallas.attention import api, attention, refusing
from tests import products
from tests.kernels_pallas import contract


def numpy_attention(q, k, v, do, causal, scale):
  """o, dq, dk and dv in float64, written out, one head at a time."""
  scale = 1 / np.sqrt(q.shape[-1]) if scale is None else scale
  o, dq, dk, dv = (np.zeros_like(x) for x in (q, q, k, v))
  serves = q.shape[2] // k.shape[2]
  for b in range(q.shape[0]):
    for h in range(q.shape[2]):
      query, g = (b, slice(None), h), (b, slice(None), h // serves)
      scores = scale * q[query] @ k[g].T
      if causal:
        scores = np.where(np.tri(*scores.shape), scores, -np.inf)
      weights = np.exp(scores - scores.max(-1, keepdims=True))
      weights /= weights.sum(-1, keepdims=True)
      o[query] = weights @ v[g]
      dv[g] += weights.T @ do[query]
      dweights = do[query] @ v[g].T
      inner = (weights * dweights).sum(-1, keepdims=True)
      dscores = scale * weights * (dweights - inner)
      dq[query] = dscores @ k[g]
      dk[g] += dscores.T @ q[query]
  return o, dq, dk, dv


class TestContract(contract.Contract):
  """Against the formulas above."""

  name = "attention"
  transcription = staticmethod(numpy_attention)


def _arrays(shape=(2, 128, 4, 64), dtype=jnp.bfloat16, key_heads=None, keys=0):
  b, t, h, k = shape
  key = jax.ShapeDtypeStruct((b, keys or t, key_heads or h, k), dtype)
  return jax.ShapeDtypeStruct(shape, dtype), key, key


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_is_what_jax_means_by_attention(causal, dtype):
  """Values and gradients; a kernel is chosen against that by its name."""
  with jax.enable_x64(dtype == "float64"):
    rng = np.random.default_rng(0)
    q, do = (jnp.asarray(rng.normal(size=(2, 9, 4, 8)), dtype) for _ in "qo")
    k, v = (jnp.asarray(rng.normal(size=(2, 9, 2, 8)), dtype) for _ in "kv")

    def theirs(q, k, v):
      return jax.nn.dot_product_attention(
        q, k, v, is_causal=causal, scale=0.5, implementation="xla"
      )

    def ours(q, k, v):
      return attention(q, k, v, causal, 0.5, impl="reference")

    def results(function):
      o, backward = jax.vjp(function, q, k, v)
      return o, *backward(do)

    # Theirs has its weights in float32 for float64 as well.
    bound = 64 * float(jnp.finfo("float32").eps)
    for got, want in zip(results(ours), results(theirs), strict=True):
      np.testing.assert_allclose(got, want, rtol=0, atol=bound)


GPU, TPU = ("gpu", "NVIDIA H200"), ("tpu", "TPU v6 lite")


@pytest.mark.parametrize(
  ("name", "where", "arrays", "reason"),
  [
    ("cudnn", ("cpu", "cpu"), {}, "needs an NVIDIA GPU, this is cpu"),
    ("cudnn", ("gpu", "AMD MI300X"), {}, "needs an NVIDIA GPU, this is AMD"),
    ("cudnn", GPU, {"dtype": jnp.float32}, "needs bfloat16 or float16, not f"),
    ("cudnn", GPU, {"shape": (2, 128, 4, 60)}, "a multiple of 8 features up"),
    ("cudnn", GPU, {"shape": (2, 128, 4, 256)}, "up to 128, not 256"),
    ("cudnn", GPU, {"keys": 64}, "as many queries as keys, not 128 and 64"),
    ("flash_tpu", ("cpu", "cpu"), {}, "needs a TPU, this is cpu"),
    ("flash_tpu", TPU, {"dtype": jnp.float16}, "float32 or bfloat16, not f"),
    ("flash_tpu", TPU, {"key_heads": 2}, "no grouped queries: 4 query heads"),
    ("flash_tpu", TPU, {"shape": (2, 197, 4, 64)}, "a multiple of 128 posit"),
    ("flash_tpu", TPU, {"shape": (2, 128, 4, 192)}, "128 features or fewer"),
  ],
)
def test_why_a_kernel_cannot(monkeypatch, name, where, arrays, reason):
  monkeypatch.setattr(api.jax, "default_backend", lambda: where[0])
  with products.compiled_for(*where):
    with pytest.raises(dispatch.UnsupportedError, match=f"{name}: .*{reason}"):
      api.OP.choose(name, *_arrays(**arrays))
    assert api.OP.choose(None, *_arrays(**arrays)).name == "reference"


@pytest.mark.parametrize(
  ("name", "where"), [("cudnn", GPU), ("flash_tpu", TPU)]
)
def test_a_kernel_runs_by_its_name_or_once_it_is_proved(
  monkeypatch, name, where
):
  monkeypatch.setattr(api.jax, "default_backend", lambda: where[0])
  with products.compiled_for(*where):
    with dispatch.refusals() as refused:
      assert api.OP.choose(None, *_arrays()).name == "reference"
    assert "contract has not passed" in refused["attention"][name][0]
    assert api.OP.choose(name, *_arrays()).name == name
    assert api.OP.choose((name, "reference"), *_arrays()).name == name
    monkeypatch.setattr(dispatch.proved, "missing", lambda *_: None)
    assert api.OP.choose(None, *_arrays()).name == name
    asked = refusing("has no masks")
    assert asked.choose(None, *_arrays()).name == "reference"
    with pytest.raises(dispatch.UnsupportedError, match=f"{name}: has no mask"):
      asked.choose(name, *_arrays())


def test_cudnn_is_not_traced_where_no_gpu_is():
  with (
    products.compiled_for(*GPU),
    pytest.raises(dispatch.UnsupportedError, match="only where"),
  ):
    api.OP.choose("cudnn", *_arrays())


@pytest.mark.parametrize("causal", [True, False])
def test_cudnn_is_asked_for_by_name(monkeypatch, causal):
  """Left to itself jax takes plain operations."""
  seen = {}

  def note(q, k, v, **options):
    seen.update(options)
    return q

  monkeypatch.setattr(api.gpu.jax.nn, "dot_product_attention", note)
  q, k, v = (jnp.zeros(s.shape, s.dtype) for s in _arrays((1, 2, 2, 8)))
  api.gpu.attention(q, k, v, causal, 0.25)
  assert seen == {
    "implementation": "cudnn", "is_causal": causal, "scale": 0.25
  }  # fmt: skip


def test_shapes_that_do_not_fit():
  q, k, v = (jnp.zeros(s.shape) for s in _arrays((1, 2, 4, 8), key_heads=3))
  with pytest.raises(ValueError, match="g a divisor of h; got .1, 2, 4, 8."):
    attention(q, k, v)
  with pytest.raises(TypeError, match="floating arrays; got dtype int32"):
    attention(q.astype(int), q, q)


def test_more_queries_than_keys_and_no_examples():
  """The last queries see all keys."""
  rng = np.random.default_rng(0)
  q, k, v = (rng.normal(size=(1, n, 1, 4)) for n in (5, 3, 3))
  o = jax.jit(attention)(*map(jnp.float32, (q, k, v)))
  weights = np.exp(q[0, 2:, 0] @ k[0, :, 0].T / 2)
  want = weights @ v[0, :, 0] / weights.sum(1, keepdims=True)
  np.testing.assert_allclose(o[0, 2:, 0], want, rtol=1e-5, atol=1e-6)
  few = jax.eval_shape(attention, q[:0], k[:0], v[:0])
  assert few.shape == (0, 5, 1, 4)
  for empty in (k[:, :0], k[..., :0]):
    with pytest.raises(ValueError, match="a key and a feature; got keys of"):
      attention(q[..., : empty.shape[-1]], empty, empty)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_flash_in_a_model_that_says_float32(monkeypatch, dtype):
  """The compiler refuses products of 16 bits that are asked to be more.

  Backwards too, which is traced when the caller's block is.
  """
  from kernels_pallas.attention import tpu

  seen = []

  @jax.custom_vjp
  def kernel(q, k, v):
    return q + k + v

  def backward(_, do):
    seen.append(jax.config.jax_default_matmul_precision)
    return do, do, do

  def forward(q, k, v):
    seen.append(jax.config.jax_default_matmul_precision)
    return q + k + v, None

  kernel.defvjp(forward, backward)
  monkeypatch.setattr(
    tpu.flash_attention, "flash_attention", lambda *qkv, **_: kernel(*qkv)
  )
  q = jnp.ones((1, 2, 1, 8), dtype)
  with jax.default_matmul_precision("float32"):
    o, back = jax.vjp(lambda *qkv: tpu.attention(*qkv, True), q, q, q)
    assert back(o)[0].dtype == dtype
  assert seen == ["float32" if dtype == jnp.float32 else "default"] * 2


def test_flash_products_of_16_bits_are_as_they_are():
  """Mosaic refuses those that a training step's precision asks for."""
  q, k, v = _arrays((1, 128, 1, 64))

  def run(q, k, v, do):
    o, backward = jax.vjp(
      functools.partial(attention, impl="flash_tpu"), q, k, v
    )
    return o, *backward(do)

  with products.compiled_for(*TPU), jax.default_matmul_precision("float32"):
    found = [p.precision for p in products.of(jax.make_jaxpr(run)(q, k, v, q))]
  assert len(found) == 9  # 2 forward, 4 for dk and dv, 3 for dq.
  assert set(found) == {(jax.lax.Precision.DEFAULT,) * 2}


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["default", "float32"])
def test_flash_compiles_for_a_tpu_that_is_not_here(precision):
  if (reason := aot.missing("v6e")) is not None:
    pytest.skip(reason)
  q, k, v = _arrays((2, 256, 2, 64))

  def run(q, k, v, do):
    forward = functools.partial(attention, impl="flash_tpu")
    o, backward = jax.vjp(forward, q, k, v)
    return o, *backward(do)

  with jax.default_matmul_precision(precision):
    found = aot.compile(run, q, k, v, q, target="v6e")
  # Forward, and one for dk and dv and one for dq.
  assert found.text.count('custom_call_target="tpu_custom_call"') == 3
