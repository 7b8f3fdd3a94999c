"""Reads text files, tables, records and hub datasets as chunks of text or as records with fields."""
