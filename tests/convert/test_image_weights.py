"""Networks of images in and out: what timm, transformers, torchvision compute.

`recorded_images/record.py` made the recordings; the weights are drawn anew.
"""

import functools
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors

from normjax import configure, convert, errors
from normjax.convert import architecture as architectures
from normjax.convert import pretrained, reading
from normjax.convert.entries import Entry, Fixed
from normjax.convert.settings import Settings
from normjax.nn import variables as nn_variables
from tests import support
from tests.convert.recorded_images import drawn

RECORDED = support.ROOT / "tests/convert/recorded_images"
CASES = sorted(
  file.stem for file in RECORDED.glob("*.json") if file.stem != "sizes"
)
# They differ from another in what the names, shapes and config.json show.
_TWINS = ("nf_seresnet50", "nfnet_l0", "timm_resnet18", "timm_vit")
SIZES = json.loads((RECORDED / "sizes.json").read_text())


def _said(case):
  return json.loads((RECORDED / f"{case}.json").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """By case, a folder as its library writes it."""

  @functools.cache
  def made(case):
    said, out = _said(case), tmp_path_factory.mktemp(case)
    (out / "config.json").write_text(json.dumps(said["config"]))
    safetensors.save_file(
      {n: drawn.tensor(n, tuple(s)) for n, s in said["tensors"].items()},
      out / "model.safetensors",
    )
    return out

  return made


def _timm_or_first(case):
  """As which architecture it is written; both can say what a ViT is."""
  return "timm_vit" if case.startswith("timm_vit") else None


# ----- What they compute -----


@pytest.mark.parametrize(
  "case",
  [
    pytest.param(case, marks=pytest.mark.slow) if case in _TWINS else case
    for case in CASES
  ],
)
def test_logits_are_those_of_the_library(case, folder):
  """In float64, running statistics too."""
  said = _said(case)
  with jax.enable_x64(True):
    model = convert.from_pretrained(folder(case), dtype="float64")
    images = jnp.asarray(drawn.images(said["images"]), jnp.float64)
    logits = jax.jit(lambda model, x: model(x, train=False))(model, images)
  assert logits.dtype == np.float64
  # Of order 1, after at most a dozen sums of at most 1152 terms.
  np.testing.assert_allclose(logits, said["logits"], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
  "case", ["hf_vit", pytest.param("timm_resnet50", marks=pytest.mark.slow)]
)
def test_float32_is_near(case, folder):
  said = _said(case)
  images = jnp.asarray(drawn.images(said["images"]))
  model = convert.from_pretrained(folder(case))
  logits = jax.jit(lambda model, x: model(x, train=False))(model, images)
  assert logits.dtype == np.float32
  # As above, with roundings of 6e-8 of either sign.
  np.testing.assert_allclose(logits, said["logits"], rtol=0, atol=5e-6)


# ----- Both ways -----


@pytest.mark.parametrize("case", CASES)
def test_what_is_written_is_what_was_read(case, folder, tmp_path):
  """Each tensor bit for bit, and a config.json of the same model."""
  model = convert.from_pretrained(folder(case))
  written = convert.save_pretrained(
    model, tmp_path / "out", architecture=_timm_or_first(case)
  )
  theirs, ours = (
    safetensors.load_file(path / "model.safetensors")
    for path in (folder(case), written)
  )
  assert theirs.keys() == ours.keys()
  for name, tensor in theirs.items():
    assert ours[name].dtype == tensor.dtype, name
    np.testing.assert_array_equal(ours[name], tensor, name)
  said, config = (
    json.loads((path / "config.json").read_text())
    for path in (folder(case), written)
  )
  assert ("architecture" in config) == ("architecture" in said)
  (first, one), (second, other) = map(_options, (said, config))
  # Of networks that take any size it is not known.
  if case.startswith(("timm_resnet", "nf", "dm")):
    one.pop("input_shape"), other.pop("input_shape")
  assert (first, one) == (second, other)


def _options(config):
  settings = Settings(config, "config.json")
  return architectures.of(settings).options(settings)


_WITH_PEERS = pytest.mark.skipif(
  "NORMJAX_PEERS" not in os.environ,
  reason="NORMJAX_PEERS is no Python with torch, torchvision, timm and"
  " transformers",
)


def _peers(code, *arguments):
  """The lines that a script with the libraries prints."""
  found = subprocess.run(
    [os.environ["NORMJAX_PEERS"], "-c", code, *map(str, arguments)],
    cwd=RECORDED,
    capture_output=True,
    text=True,
    check=True,
    env={"PATH": os.environ["PATH"], "HF_HUB_OFFLINE": "1"},
  )
  return found.stdout.splitlines()


_LOADING = """
import json, sys, record
for folder, shape in json.loads(sys.argv[1]).items():
  found = record.logits(record.load(folder), shape)
  print("logits", json.dumps([folder, found.tolist()]))
"""


@pytest.mark.slow
@_WITH_PEERS
def test_the_libraries_load_what_is_written(folder, tmp_path):
  shapes = {}
  for case in CASES:
    model = convert.from_pretrained(folder(case))
    out = convert.save_pretrained(
      model, tmp_path / case, architecture=_timm_or_first(case)
    )
    shapes[str(out)] = _said(case)["images"][1:]
  printed = _peers(_LOADING, json.dumps(shapes))
  lines = [line for line in printed if line.startswith("logits ")]
  assert len(lines) == len(CASES)
  for line in lines:
    where, logits = json.loads(line.removeprefix("logits "))
    want = _said(Path(where).name)["logits"]
    np.testing.assert_allclose(logits, want, rtol=0, atol=1e-12, err_msg=where)


_TORCHVISION = """
import sys, numpy as np, torch, torchvision, drawn
model = torchvision.models.get_model("resnet18")
shapes = {name: v.shape for name, v in model.state_dict().items()}
drawn = {n: torch.tensor(drawn.tensor(n, tuple(s))) for n, s in shapes.items()}
model.load_state_dict(drawn)
torch.save(model.state_dict(), sys.argv[1] + "/resnet18.pth")
images = torch.tensor(np.load(sys.argv[1] + "/images.npy")).permute(0, 3, 1, 2)
with torch.no_grad():
  logits = model.eval()(images)
np.save(sys.argv[1] + "/logits.npy", logits.numpy())
"""


@pytest.mark.slow
@_WITH_PEERS
def test_torchvision_needs_no_config(tmp_path):
  """A real ResNet-18: the file that torch.save writes, and the name."""
  images = drawn.images((2, 64, 64, 3))
  np.save(tmp_path / "images.npy", images)
  _peers(_TORCHVISION, tmp_path)
  model = convert.from_pretrained(
    tmp_path / "resnet18.pth", architecture="resnet18"
  )
  logits = jax.jit(lambda model, x: model(x, train=False))(model, images)
  # float32, eighteen sums of at most 4608 terms.
  np.testing.assert_allclose(
    logits, np.load(tmp_path / "logits.npy"), rtol=0, atol=2e-5
  )


def test_what_config_json_would_say_may_be_said(folder, tmp_path):
  """By `architecture` and the model's options."""
  file = tmp_path / "weights.safetensors"
  shutil.copy(folder("timm_resnet18") / "model.safetensors", file)
  options = {"width": 4, "blocks_per_stage": (2, 1, 1, 1)}

  def read(architecture="resnet18", **more):
    return convert.from_pretrained(file, architecture=architecture, **more)

  assert read(**options, num_classes=5).head.kernel.shape == (32, 5)
  with pytest.raises(
    errors.UserError, match=r"the option architecture: architecture='resnet19';"
  ):
    read("resnet19")
  with pytest.raises(
    errors.UserError, match=r"; by the option architecture it is \(1000, 32\)"
  ):
    read(**options)
  # Of something else, beside a file that somebody put there.
  (tmp_path / "config.json").write_text('{"batch_size": 8}')
  assert read(**options, num_classes=5).head.kernel.shape == (32, 5)


# ----- Released sizes -----

_FAST = (
  "torchvision/resnet18",
  "torchvision/resnet50",
  "timm/vit_base_patch16_224",
  "timm/dm_nfnet_f0",
  "timm/nf_resnet50",
)


@pytest.mark.parametrize(
  "name",
  [
    name if name in _FAST else pytest.param(name, marks=pytest.mark.slow)
    for name in SIZES
  ],
)
def test_tensors_of_released_sizes(name):
  """Their number, names and shapes; nothing is allocated."""
  said = Settings({"architecture": name.partition("/")[2]}, "config.json")
  family = architectures.of(said)
  own_name, options = family.options(said)
  structure, shapes = pretrained.in_shapes(own_name, **options)
  counts = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
  assert sum(counts) == SIZES[name]["parameters"]
  declared = family.entries(nn_variables.merge(structure, shapes))
  own = {
    path: leaf.shape
    for tree in shapes.values()
    for path, leaf in reading.flat(tree).items()
  }
  found = {
    entry.theirs: (
      entry.value.shape
      if isinstance(entry, Fixed)
      else entry.shape_of_theirs(own)
    )
    for entry in declared
    if isinstance(entry, Entry | Fixed)
  }
  assert drawn.digest(found) == SIZES[name]["digest"]


# ----- What cannot be -----


@pytest.mark.parametrize(
  ("case", "changes", "message"),
  [
    (
      "timm_vit",
      {"architecture": "vit_base_patch16_clip_224"},
      "architecture='vit_base_patch16_clip_224'; .* Did you mean"
      " 'vit_base_patch16_224'",
    ),
    ("timm_vit", {"model_args.reg_tokens": 4}, "reg_tokens=4; .* only 0"),
    ("timm_vit", {"model_args.detph": 4}, "model_args.detph=4; .*'depth'"),
    ("timm_vit", {"model_args.depth": 0}, "model_args.depth=0; allowed: a"),
    ("timm_vit", {"model_args.patch_size": [4, 2]}, "same for height and"),
    ("timm_vit", {"model_args.init_values": "a"}, "init_values='a'; allowed"),
    ("timm_vit", {"model_args.mlp_ratio": 1e300}, "mlp_ratio=.*, <= 1e"),
    ("timm_vit", {"model_args.global_pool": "map"}, "allowed here: 'token'"),
    ("timm_vit", {"pretrained_cfg.input_size": [3, 8]}, "input_size=.*chann"),
    ("hf_vit", {"qkv_bias": False}, "qkv_bias=False; .* only True"),
    ("hf_vit", {"hidden_act": "silu"}, "hidden_act='silu'; allowed here"),
    ("timm_resnet18", {"model_args.avg_down": True}, "avg_down=True; .* only"),
    ("timm_resnet18", {"model_args.channels": [4, 8, 8, 8]}, "double them"),
    ("timm_resnet18", {"model_args.layers": [1, 1]}, "four stages"),
    ("nfnet_f0", {"model_args.reg": True}, "reg=True; .* only False"),
    ("nfnet_f0", {"model_args.attn_layer": "eca"}, "'eca'; .* only 'se'"),
    (
      "nfnet_f0",
      {"model_args.attn_kwargs": {"rd_ratio": 0.3}},
      "rd_divisor=8; models here do not round .*, and 0.3 of 32 would be",
    ),
    ("nfnet_f0", {"model_args.channels": [36, 64]}, "do not round channels"),
    ("nfnet_f0", {"model_args.stem_type": "3x3"}, "'3x3'; allowed here"),
    (
      "nf_resnet50",
      {"model_args.channels": [64, 96]},
      r"nearest .* \(64, 128\)",
    ),
    ("nf_resnet50", {"model_args.stem_chs": 64}, "it must be 16"),
    ("nf_resnet50", {"model_args.depths": [1, 0]}, "depths=.*whole numbers"),
  ],
)
def test_settings_that_no_model_here_has_are_named(case, changes, message):
  config = _said(case)["config"]
  for key, value in changes.items():
    holder = config
    *blocks, last = key.split(".")
    for block in blocks:
      holder = holder[block]
    holder[last] = value
  with pytest.raises(errors.UserError, match=message):
    _options(config)


@pytest.mark.parametrize(
  ("name", "options", "message"),
  [
    (
      "nfnet",
      {"widths": (32,), "blocks_per_stage": (1,), "group_size": 8},
      "nfnet: its activation is 'gelu'; config.json has words for 'gelu_exact'",
    ),
    (
      "nf_resnet",
      {"blocks_per_stage": (1,), "width": 1, "activation_gain": "exact"},
      "nfnet: its activation_gain is 'exact'",
    ),
    (
      "vit",
      {
        "num_layers": 1,
        "pooling": "mean",
        "input_shape": (8, 8, 3),
        "norm": "layer_norm(eps=1e-5)",
      },
      "final_norm.norm.eps is 1e-05 here and 1e-06 there",
    ),
    (
      "resnet",
      {"depth": 18, "width": 4, "blocks_per_stage": (1, 1, 1, 1)},
      "layers/0.changes_shape is False here and True there",
    ),
  ],
)
def test_a_model_that_the_libraries_do_not_have_is_not_written(
  name, options, message, tmp_path
):
  model = nn_variables.merge(*pretrained.in_shapes(name, **options))
  with pytest.raises(errors.UserError, match=message):
    convert.save_pretrained(model, tmp_path / "out")
  assert not (tmp_path / "out").exists()


def test_options_must_fit_the_weights(folder):
  for options, message in (
    ({"norm": "rms_norm"}, "'vit' has what the model lacks: final_norm/bias"),
    ({"pooling": "mean"}, "has no place for: vit.embeddings.cls_token"),
    ({"num_classes": 3}, r"'classifier.weight' is \(5, 16\); .* \(3, 16\)"),
  ):
    with pytest.raises(errors.UserError, match=message):
      convert.from_pretrained(folder("hf_vit"), **options)


def test_what_only_a_run_is_told_by_may_differ(folder, tmp_path):
  """Dropout, stochastic depth, the dtype of the computation."""
  model = convert.from_pretrained(
    folder("nf_resnet50"),
    stochastic_depth_rate=0.2,
    dropout_rate=0.1,
    compute_dtype="bfloat16",
  )
  assert convert.save_pretrained(model, tmp_path / "out").is_dir()


# ----- The images -----

_TIMM = {
  "pretrained_cfg": {
    "input_size": [3, 224, 224],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "crop_pct": 0.95,
  }
}
_TRANSFORMERS = {
  "do_normalize": True,
  "image_mean": [0.5],
  "image_std": [0.25],
  "rescale_factor": 0.00392156862745098,
  "size": {"height": 64, "width": 64},
}


def _written(folder, name, content):
  (folder / name).write_text(json.dumps(content))
  return folder


def test_a_folder_says_how_its_images_were_prepared(tmp_path):
  found = convert.image_options(_written(tmp_path, "config.json", _TIMM))
  assert found == {
    "image_size": 224,
    "channels": 3,
    "crop_fraction": 0.95,
    "mean": (0.5, 0.5, 0.5),
    "deviation": (0.25, 0.25, 0.25),
  }
  name = "preprocessor_config.json"
  found = convert.image_options(_written(tmp_path, name, _TRANSFORMERS))
  expected = {"image_size": 64, "channels": 1, "crop_fraction": 1.0}
  assert found == {**expected, "mean": (0.5,), "deviation": (0.25,)}
  cropped = {
    **_TRANSFORMERS,
    "do_center_crop": True,
    "size": {"shortest_edge": 256},
    "crop_size": 224,
  }
  found = convert.image_options(_written(tmp_path, name, cropped))
  assert (found["image_size"], found["crop_fraction"]) == (224, 0.875)


def test_its_options_are_those_of_image_folder(tmp_path):
  data = configure.component("data", "image_folder")
  data.update(convert.image_options(_written(tmp_path, "config.json", _TIMM)))
  assert data.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
  ("name", "content", "message"),
  [
    ("config.json", {"architecture": "resnet18"}, "does not say how its"),
    (
      "config.json",
      {"pretrained_cfg": {**_TIMM["pretrained_cfg"], "std": [1.0]}},
      r"pretrained_cfg.std=\[1.0\]; allowed: one number for each channel",
    ),
    (
      "preprocessor_config.json",
      {**_TRANSFORMERS, "rescale_factor": 1.0},
      "rescale_factor=1.0; image_folder has",
    ),
    (
      "preprocessor_config.json",
      {**_TRANSFORMERS, "do_normalize": False},
      "do_normalize=False",
    ),
  ],
)
def test_a_folder_that_does_not_say_it_is_refused(
  name, content, message, tmp_path
):
  with pytest.raises(errors.UserError, match="no folder 'nowhere'"):
    convert.image_options("nowhere")
  with pytest.raises(errors.UserError, match=message):
    convert.image_options(_written(tmp_path, name, content))
