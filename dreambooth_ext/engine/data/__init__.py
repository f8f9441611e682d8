"""From pictures to batches: order, buckets, latents and their cache."""
