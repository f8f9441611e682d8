"""From a prompt to what the denoiser is conditioned on."""
