"""One paper figure, table or measurement per file; results beside it in results/NAME/."""
