"""Single flipped bits in results, features, classes and settings: none passes in silence."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "experiments/flip_bits.py"


def test_no_flipped_bit_is_accepted_in_silence_or_ends_in_a_traceback(tmp_path):
    """The script itself does 1,600; every command that uses the files is run for every eighth here."""
    spec = importlib.util.spec_from_file_location("flip_bits", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    counts, wrong = script.flip_bits(tmp_path, flips=40, seed=1, use_every=8)
    assert wrong == []
    kinds = {kind for kind, _ in counts}
    assert kinds == {"classes", "features", "images", "results", "settings"}
    assert sum(counts.values()) == 40
    assert sum(number for (_, what), number in counts.items() if what == "named by check") >= 38
