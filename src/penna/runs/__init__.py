"""Run and experiment folders: layout, metrics log, checkpoints."""
