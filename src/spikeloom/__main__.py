"""`python -m spikeloom`, the entry point for torchrun."""

from spikeloom.cli import main

if __name__ == "__main__":
    main()
