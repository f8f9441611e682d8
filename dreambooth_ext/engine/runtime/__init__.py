"""The training process: device, memory, seeds, commands, distributed training."""
