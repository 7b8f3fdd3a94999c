"""Training: the trainer, objectives, optimizers, schedules and distributed training."""
