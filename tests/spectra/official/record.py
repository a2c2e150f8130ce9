"""Records the official ranks of activations, by frequency of the tokens too.

    SPECTRAL_CHECKOUT=FOLDER python tests/spectra/official/record.py

To be run by hand, by an interpreter with torch. FOLDER is a checkout of
github.com/optimizer-scaling-laws/spectral-scaling-laws (MIT; 6803c68 was run).
`ranks.npz` is in float64; nothing of the code is kept.
"""

import os
import pathlib
import sys

import inputs
import numpy as np
import torch

sys.path.insert(0, os.environ["SPECTRAL_CHECKOUT"])
from optimizer_ssl import probe
from optimizer_ssl.spectra import covariance, effective_rank
from optimizer_ssl.spectra.frequency_metrics import TokenFrequencyTable

HERE = pathlib.Path(__file__).parent


def ranks(h_nd):
  """(soft, hard), in float64: the probe's own is in float32."""
  matrix = covariance.compute_covariance(h_nd)
  eigenvalues = covariance.compute_sorted_eigs(matrix)
  found = effective_rank.compute_effective_rank_metrics(eigenvalues)
  return found["soft_rank"], found["hard_rank"]


def main():
  """Writes the file."""
  h = torch.from_numpy(inputs.activations())
  table = TokenFrequencyTable(inputs.VOCABULARY)
  table.load_from_tensor(torch.from_numpy(inputs.counts()))
  words = torch.from_numpy(inputs.tokens())
  in_float32 = probe.spectral_rank(h)
  found = {
    "all": ranks(h),
    "probe_in_float32": (in_float32["soft_rank"], in_float32["hard_rank"]),
    "bucket_of_token": table.get_tertile(torch.arange(inputs.VOCABULARY)),
  }
  for i, name in enumerate(table.TERTILE_NAMES):
    found[name] = ranks(h[table.get_tertile(words) == i])
  np.savez(HERE / "ranks.npz", **{k: np.asarray(v) for k, v in found.items()})
  print(found)


if __name__ == "__main__":
  main()
