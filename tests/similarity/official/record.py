"""Records what official codes do to small similarities and embeddings.

    cd tests/similarity/official
    REVISION=… QB_NORM=CHECKOUT python record.py qb_norm
    REVISION=… DB_NORM=CHECKOUT python record.py db_norm
    REVISION=… NORM_SOFTMAX=CHECKOUT python record.py norm_softmax

To be run by hand; it needs neither jax nor normjax, for the first two SciPy and
for the last torch. One `<case>.npz` per case goes beside this file, in float64;
`meta` (JSON) has the revision, that of REVISION. The checkouts are of
github.com/ioanacroi/qb-norm (MIT), yimuwangcs/Better_Cross_Modal_Retrieval
(MIT) and azgo14/classification_metric_learning (Apache-2.0).
"""

import collections
import importlib.util
import json
import os
import pathlib
import sys
import types

import inputs
import numpy as np

FOLDER = pathlib.Path(__file__).parent


def load(source, path):
  """The module in a file of the checkout."""
  sys.path.insert(0, str(source))
  spec = importlib.util.spec_from_file_location(
    pathlib.Path(path).stem, source / path
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def qb_norm(source):
  """The dynamic inverted softmax and the retrieval metrics."""
  official = load(source, "dynamic_inverted_softmax.py")
  arrays = {}
  for k, beta in ((1, 20), (3, 2)):
    # It writes into what it is given.
    arrays[f"k{k}_beta{beta}"] = official.qb_norm(
      inputs.query_bank(), inputs.similarities(), {"k": k, "beta": beta}
    )
  metrics = official.metric.t2v_metrics(inputs.similarities())
  arrays["recall"] = np.array([metrics[f"R{k}"] for k in (1, 5, 10)])
  arrays["median_mean_rank"] = np.array([metrics["MedR"], metrics["MeanR"]])
  return arrays


def db_norm(source):
  """The inverted softmax, both forms of the product, and the skewness."""
  if importlib.util.find_spec("torch") is None:  # Of it the type alone.
    sys.modules["torch"] = types.SimpleNamespace(Tensor=type("T", (), {}))
  official = load(source, "DBNorm/dbnorm.py")
  official.Counter = collections.Counter  # The file forgets the import.
  arrays = {
    "inverted_softmax": official.IS(
      inputs.query_bank(), inputs.similarities(), beta=20
    ),
    # Over the items that some query has among its three nearest.
    "skewness": np.array(official.get_skewness(inputs.query_bank(), topk=3)),
  }
  # NaN for the test similarities: they are not read.
  unread = np.full((inputs.QUERIES, inputs.ITEMS), np.nan)
  arrays["static"] = official.db_norm(
    inputs.query_bank(), inputs.gallery_bank(), unread
  )
  # What it means to do, by its own parts, each with similarities of its own.
  for name, part in (("intent", official.IS), ("dynamic", official.qb_norm)):
    arrays[name] = part(
      inputs.query_bank(), inputs.similarities(), k=2, beta=1 / 1.99
    ) * part(inputs.gallery_bank(), inputs.similarities(), k=2, beta=3)
  return arrays


def norm_softmax(source):
  """The loss with its gradients, the embeddings, and recall at k."""
  import torch

  sys.modules["pretrainedmodels"] = types.ModuleType("pretrainedmodels")
  featurizer = load(source, "metric_learning/modules/featurizer.py")
  losses = load(source, "metric_learning/modules/losses.py")
  retrieval = load(source, "evaluation/retrieval.py")
  retrieval.xrange = range  # It is Python 2.
  model = featurizer.EmbeddedFeatureWrapper(
    torch.nn.Identity(), inputs.FEATURES, inputs.DIM
  ).double()
  loss = losses.NormSoftmaxLoss(inputs.DIM, inputs.CLASSES).double()
  kernel, proxies = inputs.parameters()
  model.remap.weight.data = torch.tensor(kernel.T)
  loss.weight.data = torch.tensor(proxies.T)
  x = torch.tensor(inputs.features(), requires_grad=True)
  embedding = model(x)
  value = loss(embedding, torch.tensor(inputs.labels()))
  value.backward()
  found = {
    "embedding": embedding,
    "loss": value,
    "dx": x.grad,
    "dembedding_kernel": model.remap.weight.grad.T,
    "dkernel": loss.weight.grad.T,
  }
  arrays = {k: v.detach().numpy().copy() for k, v in found.items()}
  vectors, classes = inputs.embeddings()
  vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
  order = np.argsort(-vectors @ vectors.T, axis=1)
  arrays["recall"] = retrieval.evaluate_recall_at_k(
    None, order, classes, classes, 8
  )
  return arrays


CASES = {
  "qb_norm": (qb_norm, "QB_NORM"),
  "db_norm": (db_norm, "DB_NORM"),
  "norm_softmax": (norm_softmax, "NORM_SOFTMAX"),
}


def main():
  """Records the cases that are named."""
  for case in sys.argv[1:]:
    record, variable = CASES[case]
    arrays = record(pathlib.Path(os.environ[variable]))
    meta = json.dumps({"revision": os.environ["REVISION"]})
    file = FOLDER / f"{case}.npz"
    np.savez_compressed(file, meta=np.array(meta), **arrays)
    print(case, file.stat().st_size, "bytes")


if __name__ == "__main__":
  main()
