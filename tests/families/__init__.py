"""Model families through torch_ir: `python -m tests.families` prints the table of results."""
