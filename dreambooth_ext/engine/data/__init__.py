"""From pictures to batches: order, aspect buckets, latents and their cache."""
