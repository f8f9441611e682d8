"""The process: device, memory, seeds, commands, several processes."""
