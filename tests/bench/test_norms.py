"""`normjax bench norms` on a few rows, with peers that are pretended."""

import json

import jax
import numpy as np
import pytest

from normjax import cli, norms
from normjax.bench import norms as bench
from normjax.bench import torch_peers
from tests import support
from tests.bench import pretender

TINY = ["bench", "norms", "--shape=32,16", "--repeats=2"]


def test_norms_are_measured(tmp_path, capsys):
  out = tmp_path / "out"
  python = pretender.write(tmp_path)
  code = cli.main(
    [
      *TINY,
      "--norms=layer_norm,dyt",
      f"--peer_python={python}",
      f"--out={out}",
    ]
  )
  assert code == 0, capsys.readouterr().err
  record = json.loads((out / "norms.json").read_text())
  assert record["results"][0]["shape"] == [32, 16]
  assert record["peer_versions"] == {"torch": "0", "adamp": None}
  layer_norm, dyt = record["results"]
  linen, torch = layer_norm["peers"]
  assert linen["name"] == "flax.linen.LayerNorm"
  assert linen["rounds_s"] != layer_norm["rounds_s"]
  assert torch["name"] == "torch F.layer_norm"
  assert torch["rounds_s"] == [0.25, 0.25]
  assert torch["ratio"] == pytest.approx(sum(layer_norm["rounds_s"]) / 0.5)
  (baseline,) = dyt["peers"]
  assert baseline["name"] == "rms_norm"
  assert "| flax.linen.LayerNorm |" in (out / "norms.md").read_text()
  assert "lacks" not in capsys.readouterr().out  # adamp is not needed here.


def test_norms_of_images_are_measured(tmp_path, capsys):
  flags = ["--family=vision", "--shape=2,2,2,32", "--repeats=1", "--nopeers"]
  norms_flag = "--norms=evonorm_s0,adain,batch_norm"
  code = cli.main(["bench", "norms", *flags, norms_flag, f"--out={tmp_path}"])
  assert code == 0, capsys.readouterr().err
  results = json.loads((tmp_path / "norms.json").read_text())["results"]
  assert all(result["shape"] == [2, 2, 2, 32] for result in results)
  peers = [[peer["name"] for peer in result["peers"]] for result in results]
  assert peers == [
    ["batch_norm + relu", "batch_norm + silu"],
    ["batch_norm"],
    ["flax.linen.BatchNorm"],
  ]


def test_families():
  """A norm of images is in one of two, batch_norm in both."""
  families = {
    family: {name for name in norms.names() if rule.has(name)}
    for family, rule in bench.FAMILIES.items()
  }
  both = families["transformer"] & families["vision"]
  assert families["all"] == families["transformer"] | families["vision"]
  assert both == {"batch_norm", "batch_renorm"}
  assert {"frn", "evonorm_b0", "adain", "bcn"} < families["vision"]
  assert bench.FAMILIES["vision"].shapes == (
    (64, 32, 32, 64),
    (256, 14, 14, 256),
  )


@pytest.mark.slow
def test_all_norms_are_measured(tmp_path, capsys):
  code = cli.main(
    ["bench", "norms", "--shape=2048,64", "--nopeers", f"--out={tmp_path}"]
  )
  assert code == 0, capsys.readouterr().err
  record = json.loads((tmp_path / "norms.json").read_text())
  assert [result["name"] for result in record["results"]] == [*norms.names()]
  assert all(result["step_s"] > 0 for result in record["results"])


@pytest.mark.parametrize(
  "name", [name for name in bench.LINEN if name in norms.names()]
)
def test_peers_compute_the_same(name):
  """Statistics of a few hundred numbers, two roundings of the rest."""
  _, make = bench.LINEN[name]
  norm = norms.make(name)
  shape = (4, 8, 8, 64) if norm.traits.mixes_positions else (16, 64)
  x = support.normal(*shape)
  module = make()
  expected, _ = module.init_with_output(jax.random.key(0), x)
  y, _ = norm.apply(norm.init((64,)), x)
  # eps is 1e-5 in one and 1e-6 in the other of some: half of it, relatively.
  np.testing.assert_allclose(y, expected, rtol=1e-5, atol=300 * 2**-24)


def test_peers_of_torch_are_known():
  assert set(bench.TORCH.values()) == set(torch_peers.NORMS)


@pytest.mark.parametrize(
  ("shape", "expected"),
  [
    ((8192, 64), (8, 32, 32, 64)),
    ((32, 8), (8, 2, 2, 8)),
    ((6, 4), (6, 1, 1, 4)),
  ],
)
def test_rows_as_images(shape, expected):
  assert bench.images(shape) == expected


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    (
      "--norms=layer_nrm",
      "unknown norm 'layer_nrm'. Did you mean 'layer_norm'",
    ),
    ("--shape=8192", "--shape=8192: two positive integers or more"),
    ("--shape=8,x", "--shape=8,x: two positive integers or more"),
  ],
)
def test_bad_flags(flag, message, capsys):
  assert cli.main([*TINY, "--nopeers", flag]) == 2
  assert message in capsys.readouterr().err
