"""The models: token ids to hidden states and logits."""
