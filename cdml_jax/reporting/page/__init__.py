"""One page that a browser opens from disk: what is confused with what, with the photographs."""
