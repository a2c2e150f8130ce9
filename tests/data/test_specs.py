"""What is said of a data set without its files is what the set gives."""

import numpy as np
import pytest

from normjax import build, configure, data, errors
from normjax.data import specs, tokenizer
from tests.data.conftest import DOCUMENTS
from tests.data.test_contract import NAMED, given, make


@pytest.mark.parametrize(
  "name", ["iris", "diabetes", "shakespeare", "synthetic", *NAMED]
)
def test_a_spec_says_what_the_set_gives(name, request, tmp_path):
  made = make(name, request)
  options = given(name, request)
  if name in NAMED:
    options["data_dir"] = str(tmp_path)  # Nothing is there.
  spec = data.spec(name, **options)
  assert (spec.name, spec.reads, spec.targets) == (
    made.name,
    made.reads,
    made.targets,
  )
  assert dict(spec.model_options) == dict(made.model_options)
  assert spec.bytes_per_token == made.bytes_per_token
  for wanted, got in (
    (made.train_batch(0, 0, 3), spec.train_batch(0, 0, 3)),
    (next(made.evaluation_batches(3)), next(spec.evaluation_batches(3))),
  ):
    assert {k: (v.shape, v.dtype) for k, v in wanted.items()} == {
      k: (v.shape, v.dtype) for k, v in got.items()
    }
  for split in ("train", "tuning", "validation", "test"):
    there = [True, True]
    for i, each in enumerate((made, spec)):
      try:
        next(each.on_split(split).evaluation_batches(2))
      except errors.UserError:
        there[i] = False
    assert there[0] == there[1], split
  assert not list(tmp_path.iterdir())


def test_a_batch_of_a_spec_takes_no_memory():
  spec = data.spec("imagenet2012")
  inputs = spec.train_batch(0, 0, 4096)["inputs"]
  assert inputs.shape == (4096, 224, 224, 3)
  assert inputs.strides == (0, 0, 0, 0)
  assert spec.shapes(7)["targets"].shape == (7,)


def test_wrong_options_of_a_spec_are_those_of_the_set():
  with pytest.raises(errors.UnknownNameError, match="'cifar10'"):
    data.spec("cifar_10")
  with pytest.raises(errors.UserError, match="'augment'"):
    data.spec("cifar10", augmnt=True)
  with pytest.raises(errors.UserError, match="scaling='unti'"):
    data.spec("cifar10", scaling="unti")
  with pytest.raises(errors.UserError, match="'document'"):
    data.spec("c4", window="documents")
  with pytest.raises(errors.UserError, match=r"'t5'.*path of a tokenizer.json"):
    data.spec("c4", tokenizer="t5")
  with pytest.raises(errors.UserError, match="more than 256"):
    data.spec("c4", tokenizer="bpe")
  with pytest.raises(errors.UserError, match="vocab_size"):
    data.spec("c4", tokenizer="t5.json", vocab_size=0)


def _config(tmp_path, **changes):
  config = configure.load("configs/default.py")
  config = configure.override(
    config, {"data.name": "c4", "data.data_dir": str(tmp_path)}
  )
  return configure.override(config, changes)


def test_shapes_suffice_only_where_that_is_said(tmp_path):
  config = _config(tmp_path)
  with data.shapes_suffice() as missing:
    assert not missing()
    spec = build.dataset(config)
    assert isinstance(spec, specs.Spec)
    assert build.evaluation_dataset(config) is spec
    assert specs.is_spec(spec)
    assert build.objective(config).name == "cross_entropy"
    assert not specs.is_spec(
      build.dataset(configure.load("configs/default.py"))
    )
    (message,) = missing()
  assert "\n" not in message
  assert "tfds build c4/en" in message
  assert "data.data_dir" in message
  with pytest.raises(errors.MissingDataError):
    build.dataset(config)
  # One's own files say by themselves what they give.
  own = configure.override(config, {"data.name": "text_files"})
  own = configure.override(own, {"data.files": str(tmp_path)})
  with data.shapes_suffice() as missing, pytest.raises(errors.DataError):
    build.dataset(own)
  assert not missing()


def test_a_missing_set_and_its_missing_tokenizer_are_said_at_once(tmp_path):
  changes = {"data.tokenizer": "none/tokenizer.json", "data.vocab_size": 300}
  with pytest.raises(errors.MissingDataError) as found:
    build.dataset(_config(tmp_path, **changes))
  assert "tfds build c4/en" in str(found.value)
  assert "there is no tokenizer 'none/tokenizer.json'" in str(found.value)


def test_a_program_of_shapes_is_measured_but_not_timed(tmp_path):
  from normjax import train

  small = {
    "model.num_layers": 1,
    "model.model_dim": 16,
    "model.num_heads": 2,
    "data.sequence_length": 8,
    "train.batch_size": 8,
    "evaluate.batch_size": 8,
  }
  with data.shapes_suffice():
    facts = train.estimate(_config(tmp_path, **small))
  there = configure.override(configure.load("configs/default.py"), small)
  timed = train.estimate(there)
  assert "step_s" in timed
  assert "step_s" not in facts
  for key in ("num_params", "optimizer_state_bytes", "peak_bytes"):
    assert facts[key] == timed[key]


@pytest.fixture
def tokenizer_file(tmp_path):
  """Ends each text by a token of its own, as T5's does, and has spare ones."""
  import tokenizers

  model = tokenizer._train(270, [" ".join(DOCUMENTS["train"])])
  model.add_special_tokens(["</s>"])
  model.post_processor = tokenizers.processors.TemplateProcessing(
    single="$A </s>", special_tokens=[("</s>", model.token_to_id("</s>"))]
  )
  model.add_special_tokens(["<extra_id_0>"])
  model.enable_truncation(4)
  path = tmp_path / "tokenizer.json"
  model.save(str(path))
  return model, str(path)


def test_tokens_of_a_file(named_dir, empty_cache, tokenizer_file):
  model, path = tokenizer_file
  end = model.token_to_id("</s>")
  options = {
    "data_dir": named_dir,
    "tokenizer": path,
    "vocab_size": end + 1,  # The spare token is no text's.
    "sequence_length": 12,
    "train_split": "train",
    "tuning_split": "",
  }
  made = data.make("c4", **options)
  batches = list(made.evaluation_batches(4))
  kept = [b["targets"][b["weight"] > 0] for b in batches]
  tokens = np.concatenate([batches[0]["inputs"][0][:1], *kept])
  texts = model.decode(tokens, skip_special_tokens=False).split("</s>")
  assert sorted(filter(None, texts)) == sorted(DOCUMENTS["validation"])
  num_bytes = sum(len(d.encode()) + 1 for d in DOCUMENTS["validation"])
  assert made.bytes_per_token == pytest.approx(num_bytes / len(tokens))
  with pytest.raises(errors.UserError, match="vocab_size=200.*at least 270"):
    data.make("c4", **options | {"vocab_size": 200})
  with pytest.raises(errors.MissingDataError, match=r"no tokenizer 'no.json'"):
    data.make("c4", **options | {"tokenizer": "no.json"})
  with pytest.raises(errors.DataError, match="cannot be read"):
    data.make("c4", **options | {"tokenizer": _broken(path)})


def _broken(path):
  other = path.replace("tokenizer.json", "broken.json")
  with open(other, "w") as file:
    file.write("{")
  return other


def test_windows_of_a_document_each(named_dir):
  options = {
    "data_dir": named_dir,
    "sequence_length": 24,
    "window": "document",
    "train_split": "train",
    "tuning_split": "",
  }
  made = data.make("c4", **options)

  def shown(batch):
    return {
      bytes(row[:1].astype(np.uint8)) + bytes(targets[w > 0].astype(np.uint8))
      for row, targets, w in zip(*map(batch.get, batch), strict=True)
      if w.any()
    }

  found = set().union(*map(shown, made.evaluation_batches(4)))
  cut = {(d.encode() + b"\0")[:25] for d in DOCUMENTS["validation"]}
  assert found == cut
  whole = sum(b["weight"].sum() for b in made.evaluation_batches(4))
  assert whole == sum(len(document) - 1 for document in cut)
  epoch = set().union(*(shown(made.train_batch(3, i, 6)) for i in range(5)))
  assert epoch == {(d.encode() + b"\0")[:25] for d in DOCUMENTS["train"]}
