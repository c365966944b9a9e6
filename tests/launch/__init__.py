"""A package, so that its conftest.py is not taken for another folder's."""
