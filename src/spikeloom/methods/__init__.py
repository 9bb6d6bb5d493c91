"""One folder per published system; `catalog` finds them."""
