"""Guards that are taken away one at a time, and the tests that must notice: ``python -m tests.mutants``."""
