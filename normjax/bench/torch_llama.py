"""LLaMAs of PyTorch for `torch_peers.py`, which imports this by path."""

LEARNING_RATE = 1e-3


def _batch(torch, vocab_size, batch_size, length):
  generator = torch.Generator().manual_seed(0)
  return torch.randint(
    vocab_size, (batch_size, length + 1), generator=generator
  )


def hugging_face(
  *,
  vocab_size,
  num_layers,
  num_heads,
  model_dim,
  hidden_dim,
  batch_size,
  length,
):
  """A training step of transformers' model, with torch's fused AdamW."""
  import torch
  import transformers

  torch.manual_seed(0)
  config = transformers.LlamaConfig(
    vocab_size=vocab_size,
    num_hidden_layers=num_layers,
    num_attention_heads=num_heads,
    num_key_value_heads=num_heads,
    hidden_size=model_dim,
    intermediate_size=hidden_dim,
    use_cache=False,
  )
  model = transformers.LlamaForCausalLM(config)
  model.train()
  return _step(
    torch,
    model.parameters(),
    _batch(torch, vocab_size, batch_size, length),
    lambda inputs: model(input_ids=inputs).logits,
  )


def _step(torch, parameters, tokens, logits_of):
  optimizer = torch.optim.AdamW(
    parameters, lr=LEARNING_RATE, weight_decay=0.1, fused=True
  )
  inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].reshape(-1)

  def step():
    optimizer.zero_grad()
    logits = logits_of(inputs)
    loss = torch.nn.functional.cross_entropy(
      logits.reshape(-1, logits.shape[-1]), targets
    )
    loss.backward()
    optimizer.step()
    return loss.item()

  return step


MODELS = {"transformers LlamaForCausalLM": hugging_face}
