"""What a text holds, and what that means for training: records in, one typed result out."""
