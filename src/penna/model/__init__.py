"""Token ids to hidden states and logits."""
