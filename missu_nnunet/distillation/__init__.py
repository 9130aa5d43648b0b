"""What exists only in training: fusion blocks, the distillation loss, and the module that joins them to MISSU."""
