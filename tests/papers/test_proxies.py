"""Tables at proxy scale: what their statements rest on."""

import jax
import numpy as np
import pytest

from normjax import build, configure, papers, similarity
from normjax.adapt.protocol import Examples
from normjax.papers import targets
from normjax.reproduce import corrupted_digits
from normjax.similarity import heads
from normjax.train import gradient, layer_decay, perturbed, program


def test_computed_counts_are_those_of_the_paper():
  module = configure.load_module("configs/papers/normalized_lr_gd.py")
  table = module.table("proxy")
  stated = {next(iter(e.terms)): [e.at_least] for e in table.expected}
  assert module.measure("proxy") == stated
  assert [int(count) for (count,) in stated.values()] == [2, 2, 16, 157, 308]
  assert {cell.ref for cell in table.cells} == set(stated)
  assert all(cell.part == papers.MEASURE for cell in table.cells)


_STATE_BITS = "configs/papers/state_bits.py"


def _optimizers(path):
  """The whole block of each row, by label."""
  module = configure.load_module(path)
  return {
    label: dict(configure.override(configure.load(path), method).optimizer)
    for label, method in module.METHODS.items()
  }


@pytest.mark.parametrize(
  "label",
  [
    "AdamW, 8 bits",
    "AdamW, FP8",
    "AdamW, 4 bits",
    "AdamW, 4 bits, ZIP-SR",
    "AdamW, 4 bits, ZE-EDEN",
    "momentum, 8 bits",
  ],
)
def test_states_of_fewer_bits_differ_in_bits_alone(label):
  """What decays is said, since by default it is not the same."""
  rows = _optimizers(_STATE_BITS)
  wide, narrow = rows[f"{label.split(',')[0]}, 32 bits"], rows[label]
  of_bits = {"name", "block_size", "block_layout", "min_size", "keep", "seed"}
  of_bits |= {"signed_code", "unsigned_code", "calibrated"}
  of_bits |= {"signed_rounding", "unsigned_rounding"}
  not_there = {"nesterov", "decoupled"}
  shared = set(wide) & set(narrow) - of_bits - not_there
  assert {"learning_rate", "weight_decay"} <= shared
  assert {key: wide[key] for key in shared} == {
    key: narrow[key] for key in shared
  }
  assert set(wide) ^ set(narrow) <= of_bits | not_there
  assert not any(row.get(key) for row in (wide, narrow) for key in not_there)


def _shapes(path, label):
  """(config, recipe, shapes of the parameters) of a row."""
  method = configure.load_module(path).METHODS[label]
  config = configure.override(configure.load(path), method)
  recipe, initialize = program.recipe_and_initialize(config)
  state = jax.eval_shape(initialize, build.hyper(config))
  return config, recipe, state.params


def test_states_of_4_bits_are_where_torchao_has_them():
  """In embedding and head, too; vectors keep 32 bits."""
  config, recipe, params = _shapes(_STATE_BITS, "AdamW, 4 bits")
  said = layer_decay.describe_updates(config, params, recipe.roles)
  coded = {path for path, update in said.items() if "4-bit" in update}
  assert coded == {path for path in said if not path.endswith("scale")}
  assert {"embedding/embedding", "head/kernel"} < coded


_ZO_GAP = "configs/papers/zo_gap.py"


@pytest.mark.parametrize("label", ["SGD", "ZO-SGD", "ZO-SGD-Sign", "ZO-Adam"])
def test_forward_passes_of_a_fine_tuning_are_those_of_its_gradient(label):
  module = configure.load_module(_ZO_GAP)
  config, _, params = _shapes(_ZO_GAP, label)
  per_step = gradient.of(config).num_forwards
  assert module.passes(label) == per_step * config.train.num_steps
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  assert round(count, -2) == 3600  # As its head says.


def test_rows_of_fewer_steps_have_as_many_forward_passes():
  module = configure.load_module(_ZO_GAP)
  _, recipe, _ = _shapes(_ZO_GAP, module.BLOCKS)
  plan = perturbed.plan_of(recipe.roles, recipe.trained, "layers", 0)
  assert plan.num_blocks == module.NUM_BLOCKS
  equal = {
    module.passes(label)
    for label in (module.SGD_FEWER, module.BLOCKS_FEWER, module.ZO_ADAM)
  }
  assert equal == {module.passes(module.ZO_SGD)}
  assert module.passes(module.BLOCKS) == 3 * module.passes(module.ZO_SGD)


def test_normalizations_have_as_many_settings_to_choose_from():
  module = configure.load_module("configs/papers/dual_bank_hubness.py")
  settings = module.settings()
  assert tuple(settings) == module.METHODS
  counts = {method: len(choices) for method, choices in settings.items()}
  assert counts.pop(module.COSINE) == 1
  assert set(counts.values()) == {9}
  cells = {cell.ref for cell in module.table("proxy").cells}
  assert cells == {
    (method, column)
    for method in module.METHODS
    for column in (module.HUBNESS, module.RECALL)
  }


def test_heads_differ_in_what_their_rows_say_alone():
  """Two rows have as many dimensions and one temperature."""
  module = configure.load_module("configs/papers/ebv_classes.py")
  specs = {
    name: heads.resolve(method["model.head"])
    for name, method in module.METHODS.items()
  }
  fixed, trained = (
    specs[n].options for n in (module.FIXED_8, module.TRAINED_8)
  )
  for option in ("temperature", "embedding_dim"):
    assert fixed[option] == trained[option]
  assert specs[module.FIXED_26].options["temperature"] == fixed["temperature"]
  bound = similarity.welch_bound(26, fixed["embedding_dim"])
  assert bound < fixed["tau"] < 1.2 * bound


def _table(name):
  return configure.load_module(f"configs/papers/{name}.py").table("proxy")


def test_what_a_norm_may_lose_is_what_the_papers_lost():
  (loses,) = (
    e for e in _table("batch_size_table").expected if "1.3" in e.claim
  )
  printed = targets.read("switchable_norm_small_batch")
  large, small = (
    printed.number("README table", "SN", column).value
    for column in ("(8,32)", "(8,2)")
  )
  assert loses.at_least == pytest.approx((small - large) / 100)
  assert loses.at_most is None  # To gain is not to lose.


def test_a_claim_stands_beside_its_own_paper():
  table = _table("dyt_data_size")
  printed = targets.read(table.paper)
  assert printed.arxiv == "2604.23434"
  scarce, ample = (
    printed.number("abstract", "DyT", column).value
    for column in ("64M, 1M", "64M, 118M")
  )
  assert scarce < 0 < ample


def test_the_bound_of_8_bits_is_below_what_torchao_loses_with_4():
  printed = targets.read("adamw4bit_rounding").tables["Table 4, gap to 32-bit"]
  losses = {
    column: number.value
    for (method, column), number in printed.numbers.items()
    if method == "TorchAO 4-bit"
  }
  module = configure.load_module("configs/papers/state_bits.py")
  paper = configure.load_module("configs/papers/eightbit_c4.py")
  assert min(losses.values()) > module.BOUND_NATS
  assert losses["Llama 130M"] == paper.FOUR_BITS == min(losses.values())


def _load(name):
  return configure.load_module(f"configs/papers/{name}.py")


def _piece(name, compute, *args):
  """Nothing is kept; the name is one."""
  assert name
  return compute(*args)


@pytest.fixture
def asked(monkeypatch):
  """Calls for accuracies, each answered with one value per network."""
  calls = []

  def accuracies(method, networks, how, kinds):
    calls.append((method, how, tuple(kinds)))
    names = (*kinds, corrupted_digits.MEAN)
    return {
      name: [10 * n + s for s in networks] for n, name in enumerate(names)
    }

  monkeypatch.setattr(corrupted_digits, "network", lambda seed: None)
  monkeypatch.setattr(corrupted_digits, "accuracies", accuracies)
  return calls


def test_errors_of_tent_are_what_is_left_of_the_accuracies(asked):
  module = _load("tent_corruption")
  found = module.measure("proxy", _piece)
  assert [method for method, *_ in asked] == ["source", "batch", "tent"]
  assert all(how.setting == "reset_each_shift" for _, how, _ in asked)
  for method in module.METHODS:
    assert found[method, "gauss_noise"] == [99, 98, 97, 96, 95]
    assert found[method, module.MEAN] == [39, 38, 37, 36, 35]
  assert {cell.ref for cell in module.table("proxy").cells} == set(found)


def test_sorted_streams_of_unmix_come_class_after_class(asked):
  module = _load("unmix_order")
  found = module.measure("proxy", _piece)
  assert {cell.ref for cell in module.table("proxy").cells} == set(found)
  labels = np.repeat(np.arange(10), 30)
  images = {"fog_3": Examples(np.zeros((300, 1)), labels)}
  for method, how, kinds in asked:
    assert kinds == module.KINDS
    assert how.passes == (5 if method.startswith("unmix_tns") else 1)
    (segment,) = how.segments(images)
    y = np.concatenate([batch.targets for batch in segment.batches])
    changes = np.sum(y[1:] != y[:-1])
    assert changes < 20 if how.setting.endswith("correlated") else changes > 200
  settings = [how.setting for _, how, _ in asked]
  assert settings == [*module.STREAMS.values()] * len(module.METHODS)


def test_gains_of_adab2n_are_of_the_same_seeds(monkeypatch):
  module = _load("adab2n_concat")
  values = {module.BATCH: 0.5, module.ADA: 0.6, module.CN: 0.1}

  def accuracy(norm, forward, seed):
    return values[norm] + 0.001 * seed + 0.2 * (forward == module.JOINT)

  monkeypatch.setattr(module, "_accuracy", accuracy)
  found = module.measure("proxy", _piece)
  assert {cell.ref for cell in module.table("proxy").cells} == set(found)
  assert found[module.GAIN, module.PUBLISHED] == pytest.approx([30.0] * 20)
  assert found[module.GAIN, module.CONTROLLED] == pytest.approx([10.0] * 20)


def test_tasks_of_adab2n_are_whole_batches_of_two_classes():
  module = _load("adab2n_concat")
  stream = module._stream(3)
  for task, index in enumerate(stream.of_task):
    assert len({*index.tolist()}) == module.PER_TASK
    assert {*(stream.train[1][index] // 2).tolist()} == {task}
  assert module.PER_TASK % 10 == 0
  assert len(stream.test[1]) == 359


def test_domains_of_cs_arm_bn_share_controls_and_not_their_look():
  module = _load("cs_arm_bn_queries")
  generator = np.random.default_rng(0)
  images = generator.integers(0, 17, (60, 8, 8, 1)).astype(np.uint8)
  part = images, np.arange(60) % 10
  found = module._domains(part, 3, 20, generator)
  assert np.bincount(found.domains).tolist() == [26] * 3
  assert np.bincount(found.domains[found.is_control]).tolist() == [6] * 3
  queries = found.labels[~found.is_control]
  assert (queries.min(), queries.max()) == (0, 8)  # Nine classes.
  controls = found.inputs[found.is_control].reshape(3, 6, 64)
  spread = controls.std(axis=(1, 2))
  assert len({round(float(each), 3) for each in spread}) == 3
  assert np.abs(found.inputs).max() <= 0.5


def test_of_what_arm_bn_loses_cs_arm_bn_may_lose_half():
  """The statements' arithmetic, where it loses just less and just more."""
  module = _load("cs_arm_bn_queries")
  halves = [e for e in module.table("proxy").expected if "half" in e.claim]
  assert len(halves) == len(module.HARD)
  for loss, holds in ((0.19, True), (0.21, False)):
    for each, column in zip(halves, module.HARD, strict=True):
      values = {
        (module.ARM, module.FULL): 0.9,
        (module.ARM, column): 0.5,
        (module.CS_ARM, module.FULL): 0.95,
        (module.CS_ARM, column): 0.95 - loss,
      }
      total = sum(weight * values[ref] for ref, weight in each.terms.items())
      assert (total > each.at_least) == holds
