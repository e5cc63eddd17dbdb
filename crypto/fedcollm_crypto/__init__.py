"""The lock room: exact sums of integer vectors that nobody sees singly. It knows integers and bytes, not models."""
