"""The paper shelf: the core idea of one paper in one file, with its exact case. No file here is imported by another.

python -m experiments shelf        runs all of them; `python -m experiments NAME` one
experiments/lab/papers.py          the list of all papers, with those that are a paragraph only
"""
