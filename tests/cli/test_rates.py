"""Rates from counts that are seen now and then."""

from tunerd.cli.rates import Rates


def test_the_rate_is_that_of_the_window() -> None:
    """Older samples no longer count, and one sample gives none."""
    rates = Rates(10.0)
    rates.add(0.0, {"sent": 100})
    assert rates.of("sent") is None
    for at in range(1, 31):
        rates.add(float(at), {"sent": 100 + (5 * at if at <= 20 else 100)})
    assert rates.of("sent") == 0.0
    assert rates.of("never") == 0.0


def test_without_a_window_the_last_two_count() -> None:
    """As for the lines in a pipe."""
    rates = Rates(0.0)
    for at, count in ((0.0, 0), (1.0, 100), (3.0, 104)):
        rates.add(at, {"sent": count})
    assert rates.of("sent") == 2.0


def test_a_new_process_starts_again() -> None:
    """Its counts begin at zero: no negative rate. The same for a clock that goes back."""
    rates = Rates(10.0)
    rates.add(0.0, {"sent": 50})
    rates.add(1.0, {"sent": 3})
    assert rates.of("sent") is None
    rates.add(2.0, {"sent": 4})
    assert rates.of("sent") == 1.0
    rates.add(1.5, {"sent": 5})
    assert rates.of("sent") is None
