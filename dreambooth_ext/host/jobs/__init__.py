"""The queue, and what happens to runs from waiting to their end: device, worker, events, publishing."""
