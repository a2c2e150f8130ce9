"""Planted faults: one per kind, each with a test that must fail of it.

A fault replaces `old`, which its file has once, by `new`. The test is short,
and no other than that kind's own.
"""

from tests.faults import (
  adaptation,
  comparison,
  conversion,
  domains,
  methods,
  procedures,
  similarity,
  spectra,
  training,
)

FAULTS = (
  *methods.FAULTS,
  *training.FAULTS,
  *adaptation.FAULTS,
  *similarity.FAULTS,
  *spectra.FAULTS,
  *domains.FAULTS,
  *procedures.FAULTS,
  *comparison.FAULTS,
  *conversion.FAULTS,
)
