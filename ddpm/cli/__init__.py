"""The command `ddpm`: one file for each subcommand."""
