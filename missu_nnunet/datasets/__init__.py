"""Raw data to nnU-Net's raw format, and the phantom that the demo trains on."""
