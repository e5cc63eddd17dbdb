"""What learns from many runs: baselines side by side (`compare`), and keys swept over seeds (`study`)."""
