"""Batches of a split: of its images, or of what a frozen network made of them."""
