"""The course: annotated modules to read, to run as scripts, and to open as notebooks (jupytext percent format)."""
