"""The field's data sets, read from their archives' own layouts."""
