"""Spaces of hyperparameters, and the points that are drawn from them."""
