"""Float64 NumPy transcriptions of whole transformers, one example at a time.

Loops over layers, heads and positions; parameters are nested dicts as
`normjax.nn.variables.split` gives them.
"""

import math

import numpy as np
from scipy import special


def _layer_norm(x, params, eps):
  centered = x - x.mean(-1, keepdims=True)
  deviation = np.sqrt((centered**2).mean(-1, keepdims=True) + eps)
  return centered / deviation * params["scale"] + params["bias"]


def _rms_norm(x, params, eps=1e-6):
  return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * params["scale"]


def _gelu(x):
  """As GPT-2 has it, with tanh."""
  return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_exact(x):
  """GELU: x Phi(x)."""
  return x * (1 + special.erf(x / math.sqrt(2))) / 2


def _silu(x):
  return x / (1 + np.exp(-x))


def _affine(x, params):
  """W x + b of a kernel that may have axes for heads."""
  kernel = params["kernel"]
  kernel = kernel.reshape(x.shape[-1], -1)
  return x @ kernel + params.get("bias", np.zeros(())).reshape(-1)


def _turn(x, theta=10_000.0):
  """Rotates one head's (t, k), as complex numbers x_i + i x_{i + k/2}."""
  t, size = x.shape
  half = size // 2
  turned = x[:, :half] + 1j * x[:, half:]
  for i in range(half):
    turned[:, i] *= np.exp(1j * np.arange(t) * theta ** (-2 * i / size))
  return np.concatenate([turned.real, turned.imag], axis=1)


def _attention(x, params, *, causal, rotary):
  """Heads one after another, positions one after another; x (t, d)."""
  heads, size = params["query"]["kernel"].shape[1:]
  kv_heads = params["key"]["kernel"].shape[1]
  q, k, v = (_affine(x, params[name]) for name in ("query", "key", "value"))
  out = np.zeros_like(q)
  for h in range(heads):
    mine = slice(h * size, (h + 1) * size)
    shared = h // (heads // kv_heads)
    theirs = slice(shared * size, (shared + 1) * size)
    q_tk, k_tk = q[:, mine], k[:, theirs]
    if rotary:
      q_tk, k_tk = _turn(q_tk), _turn(k_tk)
    for t in range(len(x)):
      seen = t + 1 if causal else len(x)
      weights = np.exp(k_tk[:seen] @ q_tk[t] / math.sqrt(size))
      out[t, mine] = weights / weights.sum() @ v[:seen, theirs]
  kernel = params["out"]["kernel"].reshape(heads * size, -1)
  return out @ kernel + params["out"].get("bias", 0.0)


def _blocks(params):
  layers = params["layers"]
  return [layers[str(i)] for i in range(len(layers))]


def _gelu_blocks(x, params, *, causal, eps, gelu=_gelu):
  """The pre-norm blocks that GPT-2 and ViT share, and the last norm."""
  for block in _blocks(params):
    h = _layer_norm(x, block["attention_input_norm"], eps)
    x = x + _attention(h, block["attention"], causal=causal, rotary=False)
    h = _layer_norm(x, block["feed_forward_input_norm"], eps)
    feed = block["feed_forward"]
    x = x + _affine(gelu(_affine(h, feed["up"])), feed["down"])
  return _layer_norm(x, params["final_norm"], eps)


def gpt2(params, tokens):
  """Logits (t, v) of tokens (t,): Radford et al. 2019, section 2.3."""
  embedding = params["embedding"]["embedding"]
  x = embedding[tokens] + params["position_embedding"][: len(tokens)]
  return _gelu_blocks(x, params, causal=True, eps=1e-5) @ embedding.T


def llama(params, tokens):
  """Logits (t, v) of tokens (t,): arXiv:2302.13971, section 2.2."""
  x = params["embedding"]["embedding"][tokens]
  for block in _blocks(params):
    h = _rms_norm(x, block["attention_input_norm"])
    x = x + _attention(h, block["attention"], causal=True, rotary=True)
    h = _rms_norm(x, block["feed_forward_input_norm"])
    feed = block["feed_forward"]
    gated = _silu(_affine(h, feed["gate"])) * _affine(h, feed["up"])
    x = x + _affine(gated, feed["down"])
  return _affine(_rms_norm(x, params["final_norm"]), params["head"])


def vit(params, image, patch, gelu=_gelu):
  """Logits of an image (y, x, c): arXiv:2010.11929, equations 1 to 4."""
  height, width, _ = image.shape
  kernel = params["patch_conv"]["kernel"].reshape(
    -1, len(params["class_token"])
  )
  rows = [params["class_token"]]
  for y in range(0, height, patch):
    for x in range(0, width, patch):
      pixels = image[y : y + patch, x : x + patch].reshape(-1)
      rows.append(pixels @ kernel + params["patch_conv"]["bias"])
  x = np.stack(rows) + params["position_embedding"]
  x = _gelu_blocks(x, params, causal=False, eps=1e-6, gelu=gelu)
  return _affine(x[0], params["head"])
