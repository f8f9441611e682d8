"""Every setting of a run, one section per file. `run_config.RunConfig` combines them."""
