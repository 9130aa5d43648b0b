"""Predicting with a trained model: nnU-Net's predictor, and what it does not give."""
