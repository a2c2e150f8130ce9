"""Records what transformers computes of tiny random decoders.

    <python with torch and transformers> record_decoders.py [NAME ...]
    <python with torch and transformers> record_decoders.py --check FOLDER

Written, per model, beside this file: a folder as transformers saves it, in
bfloat16, and the logits of a few tokens as it computes them from these weights
in float32 and in float64. For the latter what it casts to float32 (statistics
of norms, angles, scores) is cast to float64. With --check a folder that holds
such logits must give them.
"""

import contextlib
import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent
_SIZES = {
  "vocab_size": 50,
  "hidden_size": 16,
  "intermediate_size": 24,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "bos_token_id": None,
  "eos_token_id": None,
  "pad_token_id": None,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2, "rms_norm_eps": 1e-3}


def _llama(**options):
  return transformers.LlamaConfig(**{**_GROUPED, **options})


CONFIGS = {
  # LLaMA 1 and 2.
  "llama": lambda: _llama(num_key_value_heads=4, hidden_act="silu"),
  # LLaMA 3.1 to 3.3; angles of all three kinds: 8, 0.9, 0.1, 0.01 turns.
  "llama3": lambda: _llama(
    tie_word_embeddings=True,
    head_dim=8,
    rope_parameters={
      "rope_type": "llama3",
      "rope_theta": 500.0,
      "factor": 8.0,
      "low_freq_factor": 0.5,
      "high_freq_factor": 4.0,
      "original_max_position_embeddings": 50,
    },
  ),
  "llama_biased": lambda: _llama(
    attention_bias=True,
    mlp_bias=True,
    hidden_act="gelu",
    rope_parameters={
      "rope_type": "linear",
      "rope_theta": 1_000.0,
      "factor": 3.0,
    },
  ),
  "qwen2": lambda: transformers.Qwen2Config(
    **_GROUPED, tie_word_embeddings=True
  ),
  "qwen3": lambda: transformers.Qwen3Config(**_GROUPED, head_dim=6),
  "olmo2": lambda: transformers.Olmo2Config(**_GROUPED),
  "gpt_neox": lambda: transformers.GPTNeoXConfig(
    **_SIZES,
    layer_norm_eps=1e-3,
    rope_parameters={
      "rope_type": "default",
      "rope_theta": 10_000.0,
      "partial_rotary_factor": 0.5,
    },
  ),
  "gpt_neox_serial": lambda: transformers.GPTNeoXConfig(
    **_SIZES,
    layer_norm_eps=1e-3,
    use_parallel_residual=False,
    attention_bias=False,
    tie_word_embeddings=True,
    hidden_act="gelu_new",
    rope_parameters={
      "rope_type": "linear",
      "rope_theta": 1_000.0,
      "partial_rotary_factor": 1.0,
      "factor": 2.0,
    },
  ),
}


@contextlib.contextmanager
def widened():
  """Casts to float32 are casts to float64."""
  kept = torch.float32, torch.float, torch.Tensor.float
  torch.set_default_dtype(torch.float64)
  torch.float32 = torch.float = torch.float64
  torch.Tensor.float = torch.Tensor.double
  try:
    yield
  finally:
    torch.float32, torch.float, torch.Tensor.float = kept
    torch.set_default_dtype(torch.float32)


def _loaded(folder):
  """The model of a folder, all of whose tensors have a place."""
  model, info = transformers.AutoModelForCausalLM.from_pretrained(
    folder,
    dtype=torch.float32,
    attn_implementation="eager",
    output_loading_info=True,
  )
  assert not any(info.values()), info
  return model.eval()


def _logits(model, tokens):
  with torch.no_grad():
    return model(torch.as_tensor(tokens)).logits.numpy()


def _exact_logits(model, tokens):
  """In float64 throughout."""
  values = {name: value.double() for name, value in model.state_dict().items()}
  with widened():
    exact = transformers.AutoModelForCausalLM.from_config(
      model.config, dtype=torch.float64, attn_implementation="eager"
    )
    exact.load_state_dict(values)
    logits = _logits(exact.eval(), tokens)
  assert logits.dtype == np.float64
  return logits


def main(names):
  for name in names or CONFIGS:
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[name]())
    with torch.no_grad():
      for parameter in model.parameters():
        # Norms and biases away from 1 and 0, kernels large enough to matter.
        parameter.add_(0.3 * torch.randn_like(parameter))
    folder = HERE / name
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tokens = torch.randint(model.config.vocab_size, (2, 9)).numpy()
    model = _loaded(folder)
    np.savez_compressed(
      folder / "logits.npz",
      inputs=tokens.astype(np.int32),
      logits=_exact_logits(model, tokens),
      logits_float32=_logits(model, tokens),
    )


def check(folder):
  """Raises AssertionError unless the folder computes its logits."""
  recorded = np.load(Path(folder) / "logits.npz")
  logits = _exact_logits(_loaded(folder), recorded["inputs"].astype(np.int64))
  np.testing.assert_allclose(logits, recorded["logits"], rtol=0, atol=1e-12)


if __name__ == "__main__":
  if sys.argv[1:2] == ["--check"]:
    check(sys.argv[2])
  else:
    main(sys.argv[1:])
