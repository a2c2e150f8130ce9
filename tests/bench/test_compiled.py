"""`normjax bench compiled`, with a compiler that is pretended."""

import json

import jax
import pytest
from flax import linen

from kernels_pallas import aot
from kernels_pallas.bench import passes
from normjax import bench, cli
from normjax.bench import compiled as compiled_lib
from normjax.bench import compiled_steps, compiled_subjects
from tests import products


@pytest.fixture
def traced(monkeypatch):
  """Programs are traced, and move a hundred bytes in two kernels."""

  def compile(function, *arguments, target, donate):
    with aot.abstract(target):
      jax.eval_shape(function, *arguments)
    if donate and target == "v6e":
      raise RuntimeError("out of memory\nmore")
    return aot.Compiled(100, 2, 10, 0, 0, (), "")

  monkeypatch.setattr(aot, "compile", compile)
  monkeypatch.setattr(aot, "missing", lambda target: None)


def test_norms_and_updates(tmp_path, capsys, traced, monkeypatch):
  monkeypatch.setattr(compiled_subjects, "SHAPES", ((4, 8), (2, 2, 2, 32)))
  flags = ["--subjects=norms,optim", "--norms=rms_norm,adain", "--methods=sgd"]
  sizes = ["--num_layers=1", "--target=h200,v6e", f"--out={tmp_path}"]
  assert cli.main(["bench", "compiled", *flags, *sizes]) == 0
  results = json.loads((tmp_path / "compiled.json").read_text())["results"]
  on_gpu = {(r["name"], r["of"]): r for r in results if r["target"] == "h200"}
  # Rows for what normalizes rows, images for what normalizes images.
  assert [of for _, of in on_gpu] == [
    *(f"{name} 4x8" for name in ("forward", "keeping", "backward", "both")),
    *(f"{n} 2x2x2x32" for n in ("forward", "keeping", "backward", "both")),
    "update, 1 layers",
  ]
  # Four bytes per row beside x, and the scale.
  backward = on_gpu["rms_norm", "backward 4x8"]
  assert backward["kept_bytes"] == 2 * 32 + 4 * 4 + 4 * 8
  assert backward["bytes_over_ideal"] == 100 / (3 * 64)
  # Parameters and their momentum, both read and written, and gradients.
  size = passes.size_bytes(compiled_subjects.llama_leaves(1))
  assert on_gpu["sgd", "update, 1 layers"]["ideal_bytes"] == pytest.approx(
    5 * size, rel=0.01
  )
  # A program that does not compile is said; the others go on.
  failed = [r for r in results if "error" in r]
  assert [r["error"] for r in failed] == ["RuntimeError: out of memory"]
  assert "out of memory" in (tmp_path / "compiled.md").read_text()
  assert "Compiled, not run" in capsys.readouterr().out


def test_a_step_of_a_config():
  config = compiled_steps.config(
    "llama_60m",
    "bfloat16",
    **{"model.num_layers": 1, "train.batch_size": 2, "data.vocab_size": 16},
  )
  step = compiled_steps.step(config)
  state, metrics = jax.eval_shape(step.function, *step.arguments)
  assert step.donated == (0,)
  assert jax.tree.structure(state) == jax.tree.structure(step.arguments[0])
  assert "loss" in metrics


def test_a_peer_has_our_precision(monkeypatch):
  """Unasked, a GPU would round the peer's products alone."""

  class Peer(linen.Module):
    @linen.compact
    def __call__(self, tokens):
      return linen.Dense(4)(linen.Embed(4, 8)(tokens))

  overrides = {
    "data.name": "normjax.bench.compiled_steps:tokens",
    "data.vocab_size": 4,
    "data.length": 2,
    "model.name": "llama",
    "train.batch_size": 1,
  }
  tiny = compiled_steps.Model(overrides, lambda _: Peer())
  monkeypatch.setattr(compiled_steps, "MODELS", {"tiny": tiny})
  peer = compiled_steps.peer("tiny", "float32")
  with products.compiled_for("gpu"):
    found = [*products.of(jax.make_jaxpr(peer.function)(*peer.arguments))]
  assert len(found) == 3
  assert {each.precision for each in found} == {products.HIGHEST}


def test_steps_beside_a_peer(traced, monkeypatch):
  asked = []

  def ours(name, precision, **overrides):
    made = compiled_steps.config(name, precision, **overrides)
    asked.append(made.objective.get("logits_dtype"))
    return passes.Pass("step", lambda: 0, ())

  monkeypatch.setattr(compiled_steps, "ours", ours)
  monkeypatch.setattr(compiled_steps, "peer", ours)
  found = {
    precision: [
      (record["of"], record.get("ideal_bytes"))
      for record in compiled_lib.step_records("llama_60m", precision, "h200")
    ]
    for precision in ("float32", "bfloat16")
  }
  assert found == {
    "float32": [("step of flax.linen, float32", None), ("step, float32", 100)],
    "bfloat16": [
      ("step of flax.linen, bfloat16", None),
      ("step, bfloat16", 100),
      ("step, bfloat16, also logits", 100),
    ],
  }
  assert asked[-1] == "bfloat16"


@pytest.mark.slow
@pytest.mark.parametrize("name", compiled_steps.MODELS)
def test_the_peers_have_as_many_parameters(name):
  ours = compiled_steps.ours(name, "bfloat16")
  peer = compiled_steps.peer(name, "bfloat16")
  (variables, _), _ = jax.eval_shape(peer.function, *peer.arguments)
  assert passes.size_bytes(ours.arguments[0].params) == passes.size_bytes(
    variables["params"]
  )


def test_it_runs_only_when_named():
  assert "compiled" in bench.names()
  assert "compiled" not in bench.TIMED


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ("--target=h100", "--target=h100: no h100; known: h200, v5e, v6e."),
    ("--target=", "--target=: it names nothing to compile."),
    ("--subjects=norm", "--subjects=norm: no norm; known: norms, optim, steps"),
    ("--steps=llama", "known: llama_60m, gpt2_small, vit_small, resnet50."),
    ("--norms=rms", "rms_norm"),
  ],
)
def test_bad_names(flag, words, capsys, traced):
  assert cli.main(["bench", "compiled", flag]) == 2
  assert words in " ".join(capsys.readouterr().err.split())


def test_a_missing_compiler(monkeypatch, capsys):
  monkeypatch.setattr(aot.targets, "_installed", lambda wheel: False)
  assert cli.main(["bench", "compiled", "--subjects=norms"]) == 2
  assert "pip install 'normjax[aot]'" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_named_before_anything_compiles(
  tmp_path, capsys, traced
):
  (tmp_path / "file").touch()
  asked = ["--subjects=norms", "--norms=rms_norm", f"--out={tmp_path}/file/a"]
  assert cli.main(["bench", "compiled", *asked]) == 2
  said = capsys.readouterr()
  assert f"{tmp_path}/file" in said.err
  assert "rms_norm" not in said.out + said.err
