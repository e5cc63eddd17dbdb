"""Sums under RLWE encryption: BFV with the masks inside, and CKKS with a trusted decryptor. See `crypto/README.md`."""
