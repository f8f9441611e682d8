"""Shards: pictures in tar files (WebDataset), read one after another instead of as a folder."""
