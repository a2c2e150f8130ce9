"""`normjax bench optim` on two tiny layers, with peers that are pretended."""

import json
import sys
import types

import pytest

from normjax import cli, optim
from normjax.bench import leaves, peers, torch_client, torch_peers
from tests.bench import pretender

TINY = [
  "--num_layers=2",
  "--model_dim=8",
  "--hidden_dim=12",
  "--vocab_size=16",
  "--repeats=2",
]
SHAPES = leaves.llama(2, 8, 12, 16)


@pytest.mark.parametrize(
  "names",
  [
    ("adamw", "sinkgd"),
    pytest.param(optim.names(), marks=pytest.mark.slow),
  ],
  ids=("two", "all"),
)
def test_optimizers_are_measured(names, tmp_path, capsys):
  code = cli.main(
    [
      "bench",
      "optim",
      *TINY,
      "--nopeers",
      f"--methods={','.join(names)}",
      f"--out={tmp_path}",
    ]
  )
  assert code == 0, capsys.readouterr().err
  record = json.loads((tmp_path / "optim.json").read_text())
  results = {result["name"]: result for result in record["results"]}
  assert tuple(results) == names
  for result in results.values():
    assert "error" not in result, result
    assert result["compile_s"] > 0
    assert len(result["rounds_s"]) == 2
    assert result["peak_bytes"] > 0
  (peer,) = results["adamw"]["peers"]
  assert peer["name"] == "optax.adamw"
  assert peer["ratio"] == pytest.approx(sum(peer["ratios"]) / 2)
  # The scalars of a state are counted, too.
  per_entry = {n: r["state_bytes_per_entry"] for n, r in results.items()}
  assert per_entry["sinkgd"] == pytest.approx(0, abs=0.01)
  markdown = (tmp_path / "optim.md").read_text()
  assert "| optax.adamw |" in markdown
  if "muon" in names:
    assert per_entry["muon"] == pytest.approx(4, abs=0.01)
    assert "| optax.contrib.muon |" in markdown


def test_packages_that_are_missing_are_named(capsys):
  code = cli.main(["bench", "optim", *TINY, "--methods=sinkgd"])
  out = " ".join(capsys.readouterr().out.split())
  assert code == 0
  if "lacks torch" in out:
    assert "pip install 'normjax[bench]'" in out
  assert "sinkgd" in out


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--methods=adamv", "unknown optimizer 'adamv'. Did you mean"),
    ("--peer_python=/nowhere", "--peer_python=/nowhere cannot be started"),
    ("--repeats=0", "0 is not a positive integer"),
  ],
)
def test_bad_flags(flag, message, capsys):
  assert cli.main(["bench", "optim", *TINY, flag]) == 2
  assert message in capsys.readouterr().err


def test_the_peers_are_peers_of_optimizers_that_exist():
  from normjax.bench import torch_peers

  named = {name for names in peers.TORCH.values() for name in names}
  assert named == set(torch_peers.PEERS)


def test_a_peer_whose_package_is_missing_says_so():
  with torch_client.TorchPeers(sys.executable) as client:
    versions = client.hello()["versions"]
    if versions["adamp"] is None:
      with pytest.raises(torch_client.PeerError, match="ModuleNotFoundError"):
        client.contestant("adamp AdamP", leaves.as_torch(SHAPES))


@pytest.mark.slow
def test_rounds_beside_another_interpreter(tmp_path, capsys):
  python = pretender.write(tmp_path)
  flags = ["--methods=sinkgd,adamp", f"--peer_python={python}"]
  out = tmp_path / "out"
  assert cli.main(["bench", "optim", *TINY, *flags, f"--out={out}"]) == 0
  assert "lacks adamp" in " ".join(capsys.readouterr().out.split())
  record = json.loads((out / "optim.json").read_text())
  assert record["peer_versions"] == {"torch": "0", "adamp": None}
  sinkgd, adamp = record["results"]
  (peer,) = sinkgd["peers"]
  assert peer["rounds_s"] == [0.25, 0.25]
  assert peer["ratio"] == pytest.approx(sum(peer["ours_rounds_s"]) / 0.5)
  assert [sorted(p)[0] for p in adamp["peers"]] == ["compile_ratio", "error"]
  assert "adamp AdamP ModuleNotFoundError" in (out / "optim.md").read_text()


def test_an_interpreter_that_dies_is_reported(tmp_path):
  script = tmp_path / "python"
  script.write_text("#!/bin/sh\necho out of memory >&2\n")
  script.chmod(0o755)
  with (
    torch_client.TorchPeers(str(script)) as client,
    pytest.raises(torch_client.PeerError, match="out of memory"),
  ):
    client.hello()


def test_leaves_in_the_layout_of_torch():
  flat = leaves.as_torch(SHAPES)
  assert leaves.TorchLeaf((16, 8), "embedding") in flat
  assert leaves.TorchLeaf((16, 8), "other") in flat  # The head.
  assert flat.count(leaves.TorchLeaf((12, 8), "matrix")) == 4
  assert flat.count(leaves.TorchLeaf((8, 12), "matrix")) == 2
  assert flat.count(leaves.TorchLeaf((8, 8), "matrix")) == 8


def test_low_rank_peers_are_told_their_rank(monkeypatch):
  """pytorch_optimizer projects only groups that name one."""
  seen = []

  class Peer:
    def __init__(self, groups, lr):
      seen.extend(groups)

  package = types.SimpleNamespace(APOLLO=Peer, Fira=Peer)
  monkeypatch.setitem(sys.modules, "pytorch_optimizer", package)
  for name in ("APOLLO", "Fira"):
    _, make = torch_peers.PEERS[f"pytorch_optimizer {name}"]
    make({"matrix": ["w"], "embedding": [], "other": []})
  assert [group["rank"] for group in seen] == [128, 128]
