"""The tutorial: chapters whose solutions are the product. See README.md."""
