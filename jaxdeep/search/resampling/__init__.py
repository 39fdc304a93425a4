"""Parts of the data as rows: folds, sizes, samples, and how sure their means are."""
