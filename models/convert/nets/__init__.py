"""Published networks in PyTorch, our own definitions: each names its weights as the published checkpoints do."""
