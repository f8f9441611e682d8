"""The queue and the jobs: from waiting through device, worker and events to publishing."""
