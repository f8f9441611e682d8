"""From gradients to updates: optimizers, learning rate schedules, loss scale."""
