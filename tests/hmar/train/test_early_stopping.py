from hmar.train.early_stopping import EarlyStopping


def test_stops_after_patience_evaluations_without_a_better_one() -> None:
    stopping = EarlyStopping(patience=2)
    assert [stopping.update(epoch, value) for epoch, value in [(1, 0.1), (2, 0.3), (3, 0.2)]] == [True, True, False]
    enough = [stopping.exhausted]
    stopping.update(4, 0.1)
    enough.append(stopping.exhausted)
    assert enough == [False, True]
    assert (stopping.best, stopping.best_epoch) == (0.3, 2)


def test_equal_is_not_better_and_better_starts_the_count_anew() -> None:
    stopping = EarlyStopping(patience=2)
    stopping.update(1, 0.2)
    assert not stopping.update(2, 0.2)
    assert stopping.update(3, 0.21)
    assert (stopping.waited, stopping.best_epoch) == (0, 3)


def test_a_first_value_of_zero_is_the_best_so_far() -> None:
    assert EarlyStopping(patience=1).update(1, 0.0)


def test_its_state_survives_a_round_trip() -> None:
    one = EarlyStopping(patience=5)
    one.update(1, 0.5)
    one.update(2, 0.4)
    other = EarlyStopping(patience=5)
    other.load_state_dict(one.state_dict())
    assert other == one
