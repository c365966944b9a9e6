"""The helper that holds messages by their parts lets no key, value or remedy go."""

import re

from bad_input_cases import CASES
from messages import held, parts, says


def test_a_message_without_one_of_its_parts_is_another():
    for name, _, message in CASES:
        assert says(message, message), name
        assert held(message), name
        for word in held(message):
            without = re.sub(rf"(?<![\w.-]){re.escape(word)}(?!\w)", "…", message)
            assert not says(message, without), (name, word)


def test_other_values_other_orders_and_whole_tracebacks_are_not_taken():
    message = "image.scale must be two numbers with 0 < low <= high <= 1, not (0.5, 0.7)"
    assert says(message, message.replace("must be two numbers with", "wants a pair of numbers,"))
    assert not says(message, message.replace("0.7", "0.75"))
    assert not says(message, message.replace("(0.5, 0.7)", "(0.7, 0.5)"))
    assert not says(message, "Traceback (most recent call last):\n" + message)
    assert not says(message, message + " and so on" * 20)


def test_parts_are_a_pattern_in_order():
    pattern = parts("a.npz", "delete it")
    assert re.search(pattern, "x/a.npz was spoilt\n: delete it, then")
    assert not re.search(pattern, "delete it: a.npz")
    assert not re.search(pattern, "aXnpz: delete it")
