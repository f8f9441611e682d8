"""Trainable layers beside a frozen model: LoRA variants and hypernetworks."""
