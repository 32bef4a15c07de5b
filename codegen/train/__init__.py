"""Training with fake quantization in PyTorch (extra `qat`). Nothing else imports torch."""
