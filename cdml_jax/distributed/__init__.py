"""Who computes: devices, processes, how they fail and end together, and what crosses devices."""
