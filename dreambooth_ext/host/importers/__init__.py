"""Other trainers' configs, read by what they mean."""
