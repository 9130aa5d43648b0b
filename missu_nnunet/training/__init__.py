"""The nnU-Net trainers: ``MISSUTrainer`` and its variants."""
