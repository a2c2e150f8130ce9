"""ResNets of PyTorch for `torch_peers.py`, which imports this by path."""

LEARNING_RATE = 0.1
MOMENTUM = 0.9


def network(torch, num_classes, depth, width):
  """A CIFAR ResNet with shortcuts that subsample and pad."""
  nn, functional = torch.nn, torch.nn.functional

  class ConvNorm(nn.Sequential):
    def __init__(self, inputs, outputs, stride=1):
      super().__init__(
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
      )

  class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
      super().__init__()
      self.stride, self.missing = stride, outputs - inputs
      self.conv_1 = ConvNorm(inputs, outputs, stride)
      self.conv_2 = ConvNorm(outputs, outputs)

    def forward(self, x):
      h = self.conv_2(functional.relu(self.conv_1(x), inplace=True))
      x = x[:, :, :: self.stride, :: self.stride]
      if self.missing:
        x = functional.pad(x, (0, 0, 0, 0, 0, self.missing))
      return functional.relu(h + x, inplace=True)

  blocks, inputs = [], width
  for stage in range(3):
    for index in range((depth - 2) // 6):
      outputs = width * 2**stage
      blocks.append(Block(inputs, outputs, 2 if stage and not index else 1))
      inputs = outputs
  return nn.Sequential(
    ConvNorm(3, width),
    nn.ReLU(inplace=True),
    *blocks,
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(inputs, num_classes),
  )


def _cifar_resnet(memory_format):
  """A maker of training steps with torch's SGD."""

  def make(*, num_classes, side, depth, width, batch_size):
    import torch

    torch.manual_seed(0)
    layout = getattr(torch, memory_format)
    model = network(torch, num_classes, depth, width)
    model = model.to(memory_format=layout).train()
    optimizer = torch.optim.SGD(
      model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, foreach=True
    )
    images = torch.randn(batch_size, 3, side, side).to(memory_format=layout)
    labels = torch.randint(num_classes, (batch_size,))

    def step():
      optimizer.zero_grad()
      loss = torch.nn.functional.cross_entropy(model(images), labels)
      loss.backward()
      optimizer.step()
      return loss.item()

    return step

  return make


MODELS = {
  "torch, channels_last": _cifar_resnet("channels_last"),
  "torch, contiguous": _cifar_resnet("contiguous_format"),
}
