"""The benchmark of the ops, on an op that is made for it."""

import json
import sys
import types

import jax
import jax.numpy as jnp
import pytest

import kernels_pallas
from kernels_pallas import aot, dispatch
from kernels_pallas.bench import __main__ as command
from kernels_pallas.bench import compiled, passes, peers, timed
from kernels_pallas.specs import ArgumentSpec


def on_gpu(target, shapes, dtypes):
  return None if target.platform == "gpu" else "needs a GPU"


OP = dispatch.Op(
  "double",
  (
    dispatch.Candidate("kernel", lambda x, y: 2 * x + y, on_gpu),
    dispatch.Candidate("xla", lambda x, y: x + x + y),
  ),
  lambda x, y: None,
)


def double(x, y, impl=None):
  return OP(x, y, impl=impl)


def spec(size, **options):
  shape = jax.ShapeDtypeStruct((size,), jnp.float32)
  name = f"{size} float32"
  return ArgumentSpec(name, (shape, shape), 12 * size, **options)


OPS = kernels_pallas.OPS
DIFFERENTIATED = {"differentiated": (0,), "ideal_backward_bytes": 8}


@pytest.fixture(autouse=True)
def pretend(monkeypatch):
  """A package of an op, as OPS names it."""
  package = types.ModuleType("pretend")
  package.double = double
  api = types.ModuleType("pretend.api")
  api.OP = OP
  specs = types.ModuleType("pretend.specs")
  specs.SPECS = (spec(64, **DIFFERENTIATED), spec(16, donated=(0,)))
  monkeypatch.setitem(sys.modules, "pretend", package)
  monkeypatch.setitem(sys.modules, "pretend.api", api)
  monkeypatch.setitem(sys.modules, "pretend.specs", specs)
  monkeypatch.setattr(kernels_pallas, "OPS", {"double": "pretend"})


@pytest.fixture
def no_compiler(monkeypatch):
  """Programs of known facts, in place of a compiler."""
  calls = []

  def compile(function, *arguments, target, donate):
    with aot.abstract(target):
      jax.eval_shape(function, *arguments)
    calls.append((target, donate))
    if target == "v6e" and donate:
      raise RuntimeError("out of memory\nmore")
    return aot.Compiled(24, 2, 10, 40, 0, (), "")

  monkeypatch.setattr(aot, "compile", compile)
  monkeypatch.setattr(aot, "missing", lambda target: None)
  return calls


def test_compile_only(tmp_path, capsys, no_compiler):
  out = tmp_path / "new" / "bytes.json"
  flags = ["--compile-only", "--target=h200,v6e", f"--out={out}"]
  assert command.main(flags) == 1
  record = json.loads(out.read_text())
  rows = {
    (r["spec"], r["target"], r["impl"], r.get("pass")): r
    for r in record["results"]
  }
  assert record["device"] is None
  forward = rows["64 float32", "h200", "kernel", "forward"]
  assert (forward["bytes_over_ideal"], forward["kernels"]) == (
    24 / (12 * 64),
    2,
  )
  assert rows["64 float32", "h200", "xla", "backward"]["bytes_over_ideal"] == 3
  # In place, and without a backward pass.
  assert ("h200", (0,)) in no_compiler
  assert ("16 float32", "h200", "xla", "backward") not in rows
  assert "needs a GPU" in rows["64 float32", "v6e", "kernel", None]["error"]
  failed = rows["16 float32", "v6e", "xla", "forward"]
  assert failed["error"].endswith("forward: out of memory")
  text = capsys.readouterr().out
  assert "double  64 float32  h200    kernel  forward" in text
  assert "needs a GPU" in text


def test_timed_on_a_cpu_in_a_tiny_mode(tmp_path, capsys):
  out = tmp_path / "times.json"
  assert command.main(["--tiny", f"--out={out}"]) == 0
  record = json.loads(out.read_text())
  by_impl = {r["impl"]: r for r in record["results"]}
  assert by_impl["xla"]["spec"] == "16 float32"
  assert by_impl["xla"]["clock"] == "wall"
  assert by_impl["xla"]["yardstick_over_this"] == 1
  assert len(by_impl["xla"]["seconds"]) == 2
  assert "needs a GPU" in by_impl["kernel"]["error"]
  assert "this says that the benchmark runs" in capsys.readouterr().out


def test_the_backward_pass_reads_what_was_kept():
  (record,) = [
    r
    for r in timed.measure(
      "double", spec(8, **DIFFERENTIATED), ["xla"], 1, 1e9, rotated_bytes=0
    )
    if r["pass"] == "backward"
  ]
  assert record["bytes_per_s"] == pytest.approx(8 / record["median_s"])
  assert record["of_copy"] == pytest.approx(8e-9 / record["median_s"])


def norm_spec(residual):
  x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
  vector = jax.ShapeDtypeStruct((8,), jnp.float32)
  return ArgumentSpec(
    "small",
    (x, vector, x if residual else None),
    1,
    options={"eps": 1e-5},
    differentiated=(0, 1),
    ideal_backward_bytes=1,
  )


def peer_records(residual=False):
  found = timed.measure(
    "rms_norm", norm_spec(residual), ["tokamax", "torch"], 2, 1e9, 0
  )
  return {record["impl"]: record for record in found}


def test_peers_that_are_not_there_say_so(monkeypatch):
  monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
  for name, record in peer_records().items():
    assert record["error"] == f"{name} is not installed: pip install {name}"
  assert peers.of("rms_norm") == ("tokamax", "torch")
  assert peers.of("sinkhorn") == ()
  monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: name)
  for name, record in peer_records(residual=True).items():
    assert record["error"] == f"{name} adds no residual"


def test_tokamax_is_given_what_ours_is(monkeypatch):
  """Its function, as its own documentation has it."""
  seen = []

  def layer_norm(x, scale, offset, *, epsilon, subtract_mean):
    seen.append((offset, epsilon, subtract_mean))
    return x * scale

  monkeypatch.setitem(
    sys.modules, "tokamax", types.SimpleNamespace(layer_norm=layer_norm)
  )
  first, backward = peers.tokamax("rms_norm", norm_spec(False))
  assert (first.name, backward.name) == ("forward", "backward")
  assert set(seen) == {(None, 1e-5, False)}


def plane(name, *starts, line="Stream #1"):
  events = [
    types.SimpleNamespace(start_ns=start, duration_ns=start + 1)
    for start in starts
  ]
  lines = [types.SimpleNamespace(name=line, events=events)]
  return types.SimpleNamespace(name=name, lines=lines)


def test_a_profile_is_read_call_by_call():
  gpu = plane("/device:GPU:0", 30, 10, 20, 40)
  others = plane("/host:CPU", 1), plane("/device:GPU:0", 1, line="Steps")
  assert timed.busy_s((gpu, *others), calls=2) == pytest.approx([32e-9, 72e-9])
  # Not the same number of kernels for each call.
  assert timed.busy_s((gpu,), calls=3) == pytest.approx([104e-9 / 3] * 3)
  assert timed.busy_s(others, calls=2) is None


def test_passes_of_a_function():
  wide = jax.ShapeDtypeStruct((4, 8), jnp.float32)
  found = {
    each.name: each
    for each in passes.differentiated(
      lambda x, scale: (jnp.sin(x * scale), x + 1), wide, wide
    )
  }
  assert list(found) == ["forward", "keeping", "backward", "both"]
  kept = found["backward"].arguments[0]
  # The cosine's argument or value, and the scale.
  assert passes.size_bytes(kept) == 2 * passes.size_bytes(wide)
  (dx,) = jax.eval_shape(found["backward"].function, kept, wide)
  assert dx.shape == wide.shape
  y, rest, (dx,) = jax.eval_shape(found["both"].function, wide, wide, wide)
  assert y.shape == rest.shape == dx.shape == wide.shape


@pytest.mark.parametrize("name", OPS)
def test_ops_are_called_as_their_specs_say(name, monkeypatch):
  monkeypatch.setattr(kernels_pallas, "OPS", OPS)
  # The last of those over rows has a residual, and two results.
  spec = passes.specs(name)[-1]
  first, *backward = passes.of_op(name, spec, "reference")
  results = jax.eval_shape(first.function, *first.arguments)
  if not spec.differentiated:
    donated = [spec.shapes[i] for i in first.donated]
    moved = jax.tree.leaves(results)[: len(donated)]
    assert [(x.shape, x.dtype) for x in moved] == [
      (x.shape, x.dtype) for x in donated
    ]
    return
  (gradients,) = [
    jax.eval_shape(each.function, *each.arguments) for each in backward
  ]
  assert [x.shape for x in jax.tree.leaves(gradients)] == [
    spec.shapes[i].shape for i in spec.differentiated
  ]
  has_residual = spec.name.endswith("residual")
  assert len(jax.tree.leaves(results)) == 1 + has_residual


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ("--op=triple", "--op=triple: no triple; known: double."),
    ("--target=h100,v6e", "no h100; known: h200, v5e, v6e."),
    ("--impl=xla,mosaic", "--impl=xla,mosaic: no mosaic; known: kernel, xla."),
    ("--repeats=0", "--repeats=0: 1 or more."),
    ("--out=/dev/null/a.json", "--out=/dev/null/a.json: cannot write it: "),
  ],
)
def test_wrong_flags(flag, words, capsys):
  with pytest.raises(SystemExit) as error:
    command.main([flag])
  assert error.value.code == 2
  (line,) = capsys.readouterr().err.splitlines()
  assert words in line


def test_a_missing_compiler_says_which_extra(monkeypatch, capsys):
  monkeypatch.setattr(aot.targets, "_installed", lambda wheel: False)
  with pytest.raises(SystemExit) as error:
    command.main(["--compile-only", "--target=v6e"])
  assert error.value.code == 2
  assert "pip install 'normjax[aot]'" in capsys.readouterr().err


def test_an_unknown_implementation_has_a_reason():
  (record,) = compiled.measure("double", spec(8), "h200", "mosaic")
  assert "known: kernel, xla" in record["error"]
