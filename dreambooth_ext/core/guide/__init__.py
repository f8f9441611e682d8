"""The guide: users' experience as tables of numbers, and defaults for settings that a config leaves out."""
