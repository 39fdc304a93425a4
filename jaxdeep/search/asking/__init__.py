"""Samplers that are asked for points and told values, such as a study of Optuna."""
