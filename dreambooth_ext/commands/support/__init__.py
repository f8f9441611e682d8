"""Shared by several commands: settings as options, a run's output, publishing of its models, exit statuses."""
