"""What runs at inference: the MISSU network, its Transformer bottleneck, and how a plan configures them."""
