"""What a run is: typed sections and recipe files."""
