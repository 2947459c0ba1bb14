"""`python -m experiments.lab.speed`"""

import tyro

import experiments.lab.speed as speed
from ddpm.cli.start import ask_for_huge_pages

if __name__ == "__main__":
    ask_for_huge_pages()  # as the command `ddpm` does; all sides of each comparison have them
    speed.main(tyro.cli(speed.Config, description=speed.__doc__))
