"""Every setting of a run, section by section. `run_config.RunConfig` has them all."""
