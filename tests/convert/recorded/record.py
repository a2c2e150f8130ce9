"""Records what transformers computes of tiny random models.

    <python with torch and transformers> record.py gpt2
    <the same> record.py --check FOLDER    # computes the logits beside it

Written, per model, beside this file: a folder as transformers saves it, in
float64, and the logits of a few tokens as it computes them in float64.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

HERE = Path(__file__).parent


def gpt2():
  config = transformers.GPT2Config(
    vocab_size=50,
    n_positions=12,
    n_embd=16,
    n_layer=2,
    n_head=4,
    n_inner=40,
    layer_norm_epsilon=1e-4,
    bos_token_id=None,
    eos_token_id=None,
  )
  return transformers.GPT2LMHeadModel(config)


MODELS = {"gpt2": gpt2}


def main(names):
  for name in names or MODELS:
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    model = MODELS[name]().double().eval()
    with torch.no_grad():
      for parameter in model.parameters():
        # Norms and biases away from 1 and 0, kernels large enough to matter.
        parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(HERE / name)
    tokens = torch.randint(model.config.vocab_size, (2, 9))
    with torch.no_grad():
      logits = model(tokens).logits
    np.savez_compressed(
      HERE / name / "logits.npz", inputs=tokens.numpy(), logits=logits.numpy()
    )
    (HERE / name / "generation_config.json").unlink(missing_ok=True)


def check(folder):
  """Raises AssertionError unless the folder is the model of its logits."""
  recorded = np.load(Path(folder) / "logits.npz")
  model, info = transformers.AutoModelForCausalLM.from_pretrained(
    folder, dtype=torch.float64, output_loading_info=True
  )
  assert not any(info.values()), info
  with torch.no_grad():
    logits = model.eval()(torch.as_tensor(recorded["inputs"])).logits
  np.testing.assert_allclose(logits, recorded["logits"], rtol=0, atol=1e-12)


if __name__ == "__main__":
  if sys.argv[1:2] == ["--check"]:
    check(sys.argv[2])
  else:
    main(sys.argv[1:])
