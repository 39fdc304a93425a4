"""Who gets how many epochs: successive halving, Hyperband, asynchronous halving."""
