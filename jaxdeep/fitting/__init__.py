"""The host's part of a run: `fit`, its sources of data, placement, checkpoints and progress."""
