"""Test-time adaptation in PyTorch for `torch_peers.py`, by its own modules.

Written from the equations of arXiv:2006.10963 (statistics of the test batch)
and arXiv:2006.10726 (Tent); the network is that of `torch_resnet`.
"""

from torch_resnet import network

LEARNING_RATE = 1e-3


def _made(torch, num_classes, side, depth, width, batch_size):
  """The network and a batch, with channels last as ours are."""
  torch.manual_seed(0)
  layout = torch.channels_last
  model = network(torch, num_classes, depth, width).to(memory_format=layout)
  images = torch.randn(batch_size, 3, side, side).to(memory_format=layout)
  return model, images


def _forward(train):
  """A maker of forward passes; in train mode running statistics move, too."""

  def make(**sizes):
    import torch

    model, images = _made(torch, **sizes)
    model.train(train)

    def step():
      with torch.no_grad():
        return model(images)

    return step

  return make


def _tent(**sizes):
  """Adam on the mean entropy, in the affine of norms that see the batch."""
  import torch

  model, images = _made(torch, **sizes)
  model.train().requires_grad_(False)
  chosen = []
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.track_running_stats = False
      module.running_mean = module.running_var = None
      chosen += module.requires_grad_(True).parameters()
  optimizer = torch.optim.Adam(chosen, lr=LEARNING_RATE, foreach=True)

  def step():
    optimizer.zero_grad()
    log_p = model(images).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1).mean()
    entropy.backward()
    optimizer.step()

  return step


MODELS = {
  "torch evaluation": _forward(False),
  "torch BatchNorm, train": _forward(True),
  "torch Tent": _tent,
}
