"""How figures, pages, numbers and ε are written, for every command that shows something to a person."""
