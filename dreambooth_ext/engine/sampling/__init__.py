"""Drawing pictures: samplers, prompts, infotext and class pictures."""
