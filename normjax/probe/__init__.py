"""Looking inside a model: streams, attention sinks, spectra, early answers.

found = probe.measure(model, batch)    # all of it, as data
network = probe.Network(model, batch["inputs"])
streams, masses = network.run()
probe.kurtosis(streams[3]).overall

Nothing of the model changes: its blocks are called one by one. `normjax probe`
does it for a run, or for a folder of released weights.
"""

from normjax.probe.angles import distance, distances, last_tokens
from normjax.probe.lens import divergence, logit_lens, losses_without
from normjax.probe.measurement import measure
from normjax.probe.network import Network, NoStreamError, Streams
from normjax.probe.outliers import (
  kurtosis,
  massive,
  max_over_median,
  variance,
)
from normjax.probe.sinks import sink_rate
from normjax.probe.spectra import weight_spectra

__all__ = [
  "Network",
  "NoStreamError",
  "Streams",
  "distance",
  "distances",
  "divergence",
  "kurtosis",
  "last_tokens",
  "logit_lens",
  "losses_without",
  "massive",
  "max_over_median",
  "measure",
  "sink_rate",
  "variance",
  "weight_spectra",
]
