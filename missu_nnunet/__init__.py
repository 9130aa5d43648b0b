"""MISSU, the self-distilling 3D TransUNet (arXiv:2206.00902), as a plug-in for unmodified nnU-Net v2."""

__version__ = "0.1.0"
