"""The tables of facts that every room may read: settings, methods, optimizers, LoRA types, model families."""
