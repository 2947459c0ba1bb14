"""Reference trainings: scripts that make them, and for each a folder with its card, loss curve and sample grids."""
