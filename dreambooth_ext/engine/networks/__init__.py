"""Layers that learn beside a frozen model: LoRA and its kin, hypernetworks."""
