"""What operates a run: check it, run it, show it, verify it, hand its evidence on, and say what it spent and gained."""
