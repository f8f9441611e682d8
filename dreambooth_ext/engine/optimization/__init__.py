"""What a gradient becomes: optimizers, learning rates, loss scale."""
