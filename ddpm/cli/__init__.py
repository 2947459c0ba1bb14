"""The command `ddpm`: one file a command."""
