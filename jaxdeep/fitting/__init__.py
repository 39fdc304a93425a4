"""What drives a device: `fit`, its sources of data, placement, checkpoints and progress."""
