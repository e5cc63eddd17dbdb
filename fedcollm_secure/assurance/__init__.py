"""What attacks and measures ourselves: attacks with their twins, the empirical audit of privacy, the bench."""
