"""Cross-validations of several arms, each training one of nnU-Net's own."""
