"""Reference trainings: scripts that make them, and a folder each with its card, loss curve and sample grids."""
