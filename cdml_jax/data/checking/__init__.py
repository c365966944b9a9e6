"""What is wrong with a data set, what is left out of it, and what is worth a look."""
