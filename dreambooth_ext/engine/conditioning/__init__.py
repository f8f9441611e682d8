"""From prompts and captions to the denoiser's conditioning."""
