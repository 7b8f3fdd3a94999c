"""Reading: files, tables, records and streams of any format, to pieces of text or to records with fields."""
