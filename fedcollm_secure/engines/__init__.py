"""How bytes travel. An engine knows parties by name and messages as bytes, and nothing else."""
