"""The budget room: it knows norms, σ, ε and δ, and neither rounds nor engines. Start with `privacy/README.md`."""
