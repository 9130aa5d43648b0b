"""The nnU-Net planners: plans sized for MISSU, with its memory estimate."""
