"""What users already know, as tables of numbers and as values for what a config leaves out."""
