"""The drawn birds: a fine-grained data set made by program, frozen since its first version."""
