"""What is written down: a log that the silos cosign and nobody can rewrite, and checks that need nobody's word.

Data passes through as Event → canonical JSON → leaf of a Merkle tree → checkpoint → cosignatures, and back through
`verify_run`. README.md says why.
"""
