"""What runs at inference: the MISSU network, its Transformer, and how a plan configures them."""
