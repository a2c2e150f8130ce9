"""A kernel is a default where its contract passed at this source."""

import ast
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from kernels_pallas import device_file, dispatch, prove, proved
from kernels_pallas.contract import cases
from kernels_pallas.rms_norm import api, specs


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
  """No device has proved anything, whatever is committed."""
  monkeypatch.setattr(device_file, "RESULTS", tmp_path)
  device_file.forget()
  yield tmp_path
  device_file.forget()


def halved_last_row(x, scale, _, eps):
  y = api.rms_norm(x, scale, eps, impl="xla")
  return y.at[-1].multiply(0.5)


def kernel(x, scale, _, eps):
  """On any device, for the tests."""
  from kernels_pallas.rms_norm import xla

  return xla.rms_norm(x, scale, eps)


def op(function, name="kernel"):
  first = dispatch.Candidate(name, function, silicon=True)
  return dataclasses.replace(
    api.OP, candidates=(first, *api.OP.candidates[-2:])
  )


@pytest.fixture
def here(monkeypatch):
  """Makes an op with this kernel the only one, and its samples few."""

  def use(function):
    its = dataclasses.replace(specs.CONTRACT, specs=specs.CONTRACT.specs[:2])
    its = dataclasses.replace(its, more=(), largest=())
    monkeypatch.setattr(cases, "of", lambda name: (op(function), its))
    monkeypatch.setattr(prove, "OPS", {"rms_norm": "kernels_pallas.rms_norm"})

  return use


X = jnp.asarray(np.ones((4, 128), np.float32))


def choice():
  return op(kernel).choose(None, X, X[0], 1e-5).name


def test_a_kernel_that_passes_becomes_the_default(here, results, capsys):
  here(kernel)
  with dispatch.refusals() as refused:
    assert choice() == "xla"
  assert "has not passed on cpu" in refused["rms_norm"]["kernel"][0]
  assert prove.main(["--op=rms_norm"]) == 0
  assert choice() == "kernel"
  assert "kernel-1x256_float32 values: passed" in capsys.readouterr().out
  (file,) = results.iterdir()
  assert file.name == "cpu.json"
  assert json.loads(file.read_text())["proved"]["rms_norm/kernel"]["jax"]


def test_what_else_a_file_knows_of_a_device_is_kept(results):
  (results / "nvidia_h200.json").write_text('{"copy_bytes_per_s": 4e12}')
  assert "not passed" in proved.missing("a", "gpu", kernel, "NVIDIA H200")
  proof = {"source": "x"}
  for name in ("a/gpu", "b/gpu"):
    proved.keep("NVIDIA H200", {name: proof})
  assert json.loads(device_file.path("NVIDIA H200").read_text()) == {
    "copy_bytes_per_s": 4e12,
    "device_kind": "NVIDIA H200",
    "proved": {"a/gpu": proof, "b/gpu": proof},
  }


def test_a_kernel_that_fails_is_not_kept(here, results, capsys):
  here(halved_last_row)
  assert prove.main([]) == 1
  assert "AssertionError" in capsys.readouterr().out
  assert list(results.iterdir()) == []


def test_a_kernel_that_fails_loses_its_proof(here, results):
  here(halved_last_row)
  proofs = {"rms_norm/kernel": {"source": "x"}, "other/gpu": {"source": "y"}}
  proved.keep("cpu", proofs)
  assert prove.main([]) == 1
  kept = json.loads((results / "cpu.json").read_text())["proved"]
  assert kept == {"other/gpu": {"source": "y"}}


def test_a_folder_that_takes_no_file(here, results, monkeypatch, capsys):
  here(kernel)
  (results / "file").touch()
  monkeypatch.setattr(device_file, "RESULTS", results / "file")
  assert prove.main([]) == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert line.startswith("cannot write")


@pytest.mark.parametrize(
  "text", ["{", "[]", '{"proved": []}', '{"proved": {"rms_norm/kernel": 1}}']
)
def test_a_damaged_file_proves_nothing(results, text):
  (results / "cpu.json").write_text(text)
  device_file.forget()
  assert choice() == "xla"
  proved.keep("cpu", {"rms_norm/kernel": proved.of(kernel)})
  assert choice() == "kernel"


def test_no_kernel_for_the_device_here(capsys):
  assert prove.main(["--op=rms_norm"]) == 2
  assert "No kernel of rms_norm is for cpu" in capsys.readouterr().err


def test_proofs_of_an_op_are_kept_before_the_next(monkeypatch, results):
  """Each op's proofs are on disk before the next begins."""
  monkeypatch.setattr(prove, "OPS", {"layer_norm", "rms_norm"})
  seen = []

  def one(ops):
    seen.append((ops, len(list(results.iterdir()))))
    return {f"{ops[0]}/kernel": {"source": "x"}}, []

  monkeypatch.setattr(prove, "prove", one)
  assert prove.main([]) == 0
  assert seen == [(["layer_norm"], 0), (["rms_norm"], 1)]


def test_a_changed_source_loses_its_proof():
  proved.keep("cpu", {"rms_norm/kernel": proved.of(kernel)})
  assert choice() == "kernel"
  proof = {**proved.of(kernel), "source": "of another day"}
  proved.keep("cpu", {"rms_norm/kernel": proof})
  with dispatch.refusals() as refused:
    assert choice() == "xla"
  assert "has changed" in refused["rms_norm"]["kernel"][0]


@pytest.mark.parametrize("jax_version", ["0.1.2", None])
def test_another_jax_compiles_another_kernel(jax_version):
  """Or brings it: the attention of TPUs is jax's own."""
  proof = proved.of(kernel)
  del proof["jax"]
  proof |= {"jax": jax_version} if jax_version else {}
  proved.keep("cpu", {"rms_norm/kernel": proof})
  with dispatch.refusals() as refused:
    assert choice() == "xla"
  said = refused["rms_norm"]["kernel"][0]
  assert said.startswith(f"its contract passed on cpu with jax {jax_version}, ")


def test_the_digest_is_of_all_that_the_kernel_is_made_of():
  """Its module and what that imports; not the choice, nor other back ends."""
  made_of = {file.name for file in proved.sources(api._pallas_tpu)}
  assert {"tpu.py", "ref.py", "precision.py"} <= made_of
  assert not made_of & {"api.py", "dispatch.py", "programs.py", "xla.py"}
  made_of = {file.name for file in proved.sources(kernel)}
  assert {"xla.py", "ref.py"} <= made_of
  assert "tpu.py" not in made_of
  # Each way to import counts.
  statements = (
    "import kernels_pallas.precision, os",
    "from kernels_pallas import precision, dispatch",
    "from kernels_pallas.moments import divide",
    "from kernels_pallas.aot.hlo import Kernel as K",
  )
  found = [
    {file.name for file in proved._imported(ast.parse(statement))}
    for statement in statements
  ]
  assert found == [
    {"precision.py"},
    {"precision.py"},
    {"moments.py"},
    {"hlo.py"},
  ]
