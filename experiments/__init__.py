"""One paper figure, table or measurement per file; its results are in results/NAME/."""
