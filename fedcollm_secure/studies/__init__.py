"""What a command does: run, check, compare, report, verify. Each is one function that `cli` calls and prints."""
