"""All that is known of nnU-Net's files and commands: folders, folds, logs, datasets, plans, checkpoints."""
