"""`python -m fedcollm_secure` is `fedcollm-secure`."""

from fedcollm_secure.cli import entry

if __name__ == "__main__":
    entry()
