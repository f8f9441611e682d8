"""Downloads over HTTP and from Hugging Face, with progress, and interruptible at any time."""
