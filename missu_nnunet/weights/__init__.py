"""Weights that travel: reading checkpoints without running what they hold, fitting them to other plans, exporting."""
