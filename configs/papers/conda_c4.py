"""Does Conda reach AdamW's loss in half of the steps, or fewer?

Claim: Adam in the basis of the momentum's singular vectors reaches AdamW's loss
in 1/2 to 1/2.5 of the steps on LLaMA (arXiv:2509.24218, abstract); Muon and
SOAP are its baselines.
Command: normjax reproduce conda_c4 --scale=paper
Time: not measured. 5,000 to 100,000 steps of 131,072 tokens per row.

One sweep per size; that of 60M is `configs/papers/conda_c4.py:paper`, the next
`…:paper,130M`. Rates are the scripts': nothing is tuned.
"""

import ml_collections

from normjax import papers
from normjax import sweep as space
from normjax.papers import llama_c4

SCALES = ("paper",)
PARAMETERS = llama_c4.parameters()
ADAMW, CONDA, HALF = "AdamW", "Conda", "Conda, half the steps"
MUON, SOAP = "Muon", "SOAP"


def _adamw(size: str) -> dict:
  """1e-3 at all sizes; of 1B decay 0.1, and gradients clipped at 1."""
  if size != "1B":
    return llama_c4.adam_at(1e-3)
  decay = {"optimizer.weight_decay": 0.1, "train.gradient_clip": 1.0}
  return llama_c4.adam_at(1e-3) | decay


METHODS = {
  ADAMW: _adamw,
  CONDA: llama_c4.conda,
  HALF: lambda size: llama_c4.conda(size) | llama_c4.shorter(size, 0.5),
  MUON: llama_c4.muon,
  SOAP: llama_c4.soap,
}


def get_config(arg: str = "paper") -> ml_collections.ConfigDict:
  """The run that all rows of a size share."""
  return llama_c4.config(llama_c4.size_of(arg))


def sweep(arg: str = "paper") -> space.Sweep:
  """The rows of a size."""
  rows = llama_c4.rows(arg, METHODS)
  return space.Sweep(**rows)


def table(scale: str) -> papers.Table:
  """Perplexity by optimizer and size."""
  del scale
  return papers.Table(
    title="Perplexity of LLaMA on C4: Conda, Muon, SOAP",
    paper="conda",
    target=None,
    cells=llama_c4.cells(dict.fromkeys(METHODS, "")),
    expected=[
      papers.below((own, size), (ADAMW, size), source="abstract")
      for own in (CONDA, HALF)
      for size in llama_c4.SIZES
    ],
    hardware=llama_c4.HARDWARE,
    differs=llama_c4.DIFFERS,
    notes=(
      llama_c4.ONE_RUN,
      "The paper's fifteen tables of perplexities could not be read: there is"
      " no number to compare with.",
      "Not run: its Adafactor, which is that of Hugging Face without relative"
      " steps, and GPT-2.",
    ),
    parts=llama_c4.PARTS,
  )
