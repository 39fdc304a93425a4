"""Population-based training: members that copy each other and explore."""
