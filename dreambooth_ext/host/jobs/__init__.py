"""Runs waiting, training and ending: the queue, the worker's process and what it says."""
