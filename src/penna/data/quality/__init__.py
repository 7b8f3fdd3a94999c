"""Quality reports: what a data set contains, and what that means for training."""
