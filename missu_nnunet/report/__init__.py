"""One page with an experiment's results: verdicts, curves, distributions, pictures and a viewer."""
