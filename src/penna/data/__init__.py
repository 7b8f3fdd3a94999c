"""Data: files to records, token shards and batches."""
