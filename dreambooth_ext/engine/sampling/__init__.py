"""Drawing pictures: samplers, prompts and their infotext."""
