"""Tables, plots and HTML for runs, experiments and explanations."""
