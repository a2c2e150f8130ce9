"""What do the modes of a convolution with batch norm change in fine-tuning?

Claim: "tune", the norm folded into the kernel in each step, computes what
"eval" does, and its gradients, and keeps less for the backward pass; "deploy",
folded for good, trains otherwise and is unstable (arXiv:2305.11624, abstract
and the comparison in its repository).
Command: normjax reproduce convbn_modes --scale=proxy
Time: about 2 minutes on two cores, compilation included.

Computed: a stack of three layers in float64, with drawn weights and statistics,
and the arrays that the backward pass of a ResNet-20 keeps, of 64 images of
32x32 pixels, in shapes alone.

Trained: ResNet-8 learns digits that are turned by 90 degrees, then goes on with
upright ones, by momentum 0.9 along a cosine; the rate of the first is high, so
that the folded kernels differ in scale from those that they are made of. Rates
and that of the first were tried with one network of another seed.

`:paper`: what the authors measured of torch.compile, of a ResNet-50 and 64
images of 224x224 pixels, in shapes alone; nothing is trained.
"""

from collections.abc import Mapping, Sequence

import ml_collections

from normjax import configure, papers
from normjax import sweep as space

SCALES = ("proxy", "paper")
SEEDS = (1, 2, 3, 4, 5)
EVAL, TUNE, DEPLOY = "Eval", "Tune", "Deploy"
_SOURCE = "pretrained(quarter_turns=1, learning_rate=1.0)"
MODES = {
  EVAL: {"model.conv_norm_mode": "eval", "train.initialize_from": (_SOURCE,)},
  TUNE: {"model.conv_norm_mode": "tune", "train.initialize_from": (_SOURCE,)},
  DEPLOY: {"train.initialize_from": (_SOURCE, "deploy")},
}
LOW, HIGH = RATES = (0.01, 0.1)
FUNCTION, GRADIENT = "function", "gradient"
KEPT = "kept for the backward pass, MiB"
KEPT_GB = "kept for the backward pass, GB"


def _at(rate: float) -> str:
  return f"rate {rate}"


def get_config(arg: str = "proxy") -> ml_collections.ConfigDict:
  """The run that all points share."""
  space.words(arg, SCALES)
  config = configure.load("configs/default.py")
  config.model = configure.component("model", "cifar_resnet", depth=8, width=8)
  config.norm = configure.component("norm", "batch_norm")
  config.optimizer = configure.component("optimizer", "sgd", momentum=0.9)
  # Nothing is tuned: all that is held out validates.
  config.data = configure.component("data", "digits", tuning_split=False)
  return configure.override(
    config,
    {
      "schedule.warmup_fraction": 0.0,
      "schedule.final_fraction": 0.0,
      "train.num_steps": 100,
      "train.batch_size": 64,
      "train.gradient_clip": 0.0,
      "evaluate.every_steps": 100,
      "evaluate.num_batches": 0,
      "checkpoint.every_steps": 0,
      "log.every_steps": 10,
    },
  )


def sweep(arg: str = "proxy") -> space.Sweep:
  """Three modes at two rates."""
  space.words(arg, SCALES)
  rows = {
    f"{mode}, {_at(rate)}": method | {"optimizer.learning_rate": rate}
    for mode, method in MODES.items()
    for rate in RATES
  }
  return space.Sweep(
    methods=list(rows.values()),
    labels=list(rows),
    seeds=SEEDS,
    metric="eval/accuracy",
    mode="max",
  )


def table(scale: str) -> papers.Table:
  """Modes, computed and trained."""
  return {"proxy": _proxy_table, "paper": _paper_table}[scale]()


def _keeps_less(column: str) -> list[papers.Expected]:
  """Between 30% and 50%, about what the authors' networks save."""
  tune, frozen = (TUNE, column), (EVAL, column)
  source = "torch.compile pass: -44%; the band about it is ours"
  return [
    papers.ratio_below(
      tune,
      frozen,
      0.7,
      claim="Tune keeps at least 30% less than Eval",
      source=source,
    ),
    papers.ratio_above(
      tune,
      frozen,
      0.5,
      claim="Tune keeps at least half of what Eval keeps",
      source=source,
    ),
  ]


def _paper_table() -> papers.Table:
  return papers.Table(
    title="Memory of a ResNet-50 by mode",
    paper="convbn_tune",
    target=None,
    cells=[
      papers.Cell(mode, KEPT_GB, part=papers.MEASURE) for mode in (EVAL, TUNE)
    ],
    expected=_keeps_less(KEPT_GB),
    hardware="one CPU core, half a minute",
    differs=(
      "Arrays that the backward pass keeps, in shapes alone; the paper's"
      " numbers are the peak of PyTorch's memory, weights and temporaries"
      " included."
    ),
    notes=(
      "The authors' pass of torch.compile takes this network from a peak of"
      " 5.18 GB to one of 2.88. A peak is another quantity than what is kept:"
      " the two numbers do not stand beside the cells, and of them the"
      " statements take the ratio alone.",
    ),
    parts=(papers.MEASURE,),
    units="GB",
  )


def _proxy_table() -> papers.Table:
  eval_high, tune_high, deploy_high = ((mode, _at(HIGH)) for mode in MODES)
  return papers.Table(
    title="Modes of convolution and norm in fine-tuning",
    paper="convbn_tune",
    target=None,
    cells=[
      *(
        papers.Cell(mode, _at(rate), method=f"{mode}, {_at(rate)}")
        for mode in MODES
        for rate in RATES
      ),
      *(
        papers.Cell(TUNE, _difference(what), part=papers.MEASURE)
        for what in (FUNCTION, GRADIENT)
      ),
      *(papers.Cell(mode, KEPT, part=papers.MEASURE) for mode in (EVAL, TUNE)),
    ],
    expected=[
      *(
        papers.at_most(
          (TUNE, _difference(what)),
          1e-12,
          claim=f"Tune has the {what} of Eval, to rounding in float64",
          source="comparison in the repository",
        )
        for what in (FUNCTION, GRADIENT)
      ),
      *_keeps_less(KEPT),
      papers.trains(eval_high, source="abstract"),
      papers.trains(tune_high, source="abstract"),
      papers.diverges(deploy_high, source="abstract"),
    ],
    hardware="two CPU cores",
    differs=(
      "ResNet-8 of width 8, from turned digits to upright ones, in place of"
      " ResNet-50 from ImageNet; untuned."
    ),
    parts=(papers.SWEEP, papers.MEASURE),
    direction="",
  )


def _difference(what: str) -> str:
  return f"difference to Eval, {what}"


def measure(scale: str) -> Mapping[tuple[str, str], Sequence[float]]:
  """Differences of each seed's network, and what backward passes keep."""
  modes = {EVAL: "eval", TUNE: "tune"}
  if scale == "paper":
    images = (64, 224, 224, 3)
    return {
      (label, KEPT_GB): [_kept_bytes("resnet", 50, mode, images) / 1e9]
      for label, mode in modes.items()
    }
  images = (64, 32, 32, 3)
  kept = {
    (label, KEPT): [_kept_bytes("cifar_resnet", 20, mode, images) / 2**20]
    for label, mode in modes.items()
  }
  found = [_differences(seed) for seed in SEEDS]
  return {
    (TUNE, _difference(FUNCTION)): [function for function, _ in found],
    (TUNE, _difference(GRADIENT)): [gradient for _, gradient in found],
    **kept,
  }


def _differences(seed: int) -> tuple[float, float]:
  """Of "tune" to "eval": largest of the outputs, and of the gradients.

  Relative to the largest entry of each array, float64.
  """
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from normjax.nn import variables as nn_variables
  from normjax.nn.conv_norm import ConvNorm

  def drawn(key, leaf):
    return 0.5 + jax.random.uniform(key, leaf.shape, jnp.float64)

  def outputs(mode, variables, images):
    structures, _ = zip(*made[mode], strict=True)
    for structure, own in zip(structures, variables, strict=True):
      images = nn_variables.merge(structure, own)(images, train=True)
    return images

  with jax.enable_x64(True):
    made = {
      mode: [
        nn_variables.split(
          ConvNorm(
            4,
            4,
            mode=mode,
            dtype=jnp.float64,
            rngs=nnx.Rngs(seed * 10 + layer),
          )
        )
        for layer in range(3)
      ]
      for mode in ("eval", "tune")
    }
    # Kernels are as they start; all else is in (0.5, 1.5).
    key = jax.random.key(seed)
    variables = []
    for layer, (_, start) in enumerate(made["eval"]):
      leaves, tree = jax.tree.flatten(start)
      keys = jax.random.split(jax.random.fold_in(key, layer), len(leaves))
      variables.append(
        tree.unflatten(
          leaf.astype(jnp.float64) if leaf.ndim > 1 else drawn(each, leaf)
          for each, leaf in zip(keys, leaves, strict=True)
        )
      )
    images = jax.random.normal(key, (8, 8, 8, 4), jnp.float64)
    weights = jax.random.normal(jax.random.key(1), images.shape, jnp.float64)

    def both(mode):
      def summed(params):
        own = [
          {**v, "params": p} for v, p in zip(variables, params, strict=True)
        ]
        y = outputs(mode, own, images)
        return jnp.sum(y * weights), y

      params = [each["params"] for each in variables]
      gradient, y = jax.grad(summed, has_aux=True)(params)
      assert y.dtype == jnp.float64
      return y, gradient

    def worst(ours, theirs):
      return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(
          jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True
        )
      )

    (tune, tune_gradient), (frozen, frozen_gradient) = map(
      both, ("tune", "eval")
    )
    return worst(tune, frozen), worst(tune_gradient, frozen_gradient)


def _kept_bytes(
  name: str, depth: int, mode: str, images: tuple[int, ...]
) -> int:
  """Of a network's step: the arrays between forward and backward pass."""
  import jax
  import jax.numpy as jnp
  from flax import nnx

  from normjax import models
  from normjax.nn import variables as nn_variables

  def backward(images):
    model = models.make(
      name,
      depth=depth,
      norm="batch_norm",
      conv_norm_mode=mode,
      rngs=nnx.Rngs(0),
    )
    structure, variables = nn_variables.split(model)
    params = variables.pop("params")

    def loss(params):
      model = nn_variables.merge(structure, {**variables, "params": params})
      return jnp.mean(model(images, train=True))

    return jax.vjp(loss, params)[1]

  kept = jax.eval_shape(backward, jax.ShapeDtypeStruct(images, jnp.float32))
  leaves = jax.tree.leaves(kept)
  return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
