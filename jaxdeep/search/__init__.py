"""Many runs at once: `sweep`, its points, its strategies, and the table of what came out."""
