"""Recipes: a network for a task together with all that trains it. `jaxdeep.nn` shows them."""
