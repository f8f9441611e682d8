"""Training on shards: tar files of pictures and captions (WebDataset), local or remote, read while a run trains."""
