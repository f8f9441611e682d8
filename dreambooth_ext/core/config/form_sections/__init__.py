"""Every setting of a run, group by group. `config.RunConfig` has them all."""
