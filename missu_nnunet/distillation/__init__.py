"""What exists only in training: the teachers (moving average, fusion blocks) and the distillation loss."""
