"""What runs the network in a prediction: PyTorch, or an engine made for the processor at hand."""
