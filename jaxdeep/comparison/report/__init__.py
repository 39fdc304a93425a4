"""The report of a comparison: one HTML file with ten views, which needs no network."""
