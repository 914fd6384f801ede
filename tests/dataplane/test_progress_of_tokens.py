"""Progress between two writes: exact at the end, capped, and monotone."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supernode_dataplane.progress import (
    MAX_TOKENS,
    completion_epoch,
    format_time,
    parse_time,
    target_tokens,
    tokens_at,
    tokens_per_step,
)

AT = "2026-11-21T04:00:00.000000Z"
EPOCH = parse_time(AT) / 1e6


def line(tokens: int = 0, rate: str = "50240", at: str = AT) -> dict:
    return {"tokens": tokens, "steps": 0, "at": at, "tokensPerSecond": rate}


RATES = st.integers(1, 10**9).map(lambda n: str(n)) | st.decimals(min_value="0.001", max_value="99999", places=3).map(
    lambda d: format(d, "f")
)


@given(st.integers(0, 10**12), st.integers(0, 10**12), RATES, st.integers(0, 4 * 10**15))
def test_at_the_predicted_moment_the_tokens_are_the_target_and_not_before(tokens, more, rate, micros):
    progress = line(tokens, rate, format_time(micros / 1e6))
    target = tokens + more
    end = completion_epoch(progress, target)
    if end is None:
        assert more / float(rate) + micros / 1e6 > 253402300000, "the calendar ends before"
        return
    assert tokens_at(progress, target, end) == target
    assert parse_time(format_time(end)) == round(end * 1e6), "the moment survives being written"
    assert tokens_at(progress, target, end + 1e6) == target, "never more than the target"
    if more:
        assert end > parse_time(progress["at"]) / 1e6
        assert tokens_at(progress, None, end - 2e-3) <= target


@given(st.integers(0, 10**12), RATES, st.floats(0, 1e8), st.floats(0, 1e8))
def test_tokens_never_fall_and_are_whole(tokens, rate, first, second):
    progress = line(tokens, rate)
    low, high = sorted((first, second))
    early, late = (tokens_at(progress, None, EPOCH + t) for t in (low, high))
    assert isinstance(early, int)
    assert tokens <= early <= late


def test_an_endless_run_stops_at_the_largest_number_the_api_takes():
    assert tokens_at(line(rate="99999999999999999999"), None, EPOCH + 1e9) == MAX_TOKENS
    assert completion_epoch(line(), None) is None


def test_a_run_that_stands_still_never_completes_and_one_that_is_done_has():
    assert completion_epoch(line(5, "0"), 10) is None
    assert completion_epoch(line(10, "0"), 10) == EPOCH
    assert tokens_at(line(5, "0"), 10, EPOCH + 100) == 5
    assert tokens_at(None, 10, EPOCH) == 0
    assert completion_epoch(None, 10) is None


def test_a_rate_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="not a rate: 'fast'"):
        tokens_at(line(rate="fast"), None, EPOCH + 1)


def test_a_moment_before_the_write_is_the_write():
    assert tokens_at(line(7), None, EPOCH - 50) == 7


def test_targets_come_from_tokens_or_steps():
    training = {"sequenceLength": 8192, "globalBatchSize": 192}
    assert target_tokens({"training": training}) is None
    assert target_tokens({"training": {**training, "tokens": 5}}) == 5
    assert target_tokens({"training": {**training, "steps": 3}}) == 3 * 8192 * 192
    assert tokens_per_step({"training": training}) == 1572864


@given(st.datetimes(dt.datetime(1, 1, 1), dt.datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_times_are_read_and_written_as_the_calendar_has_them(moment: dt.datetime, offset: int):
    zone = dt.timezone(dt.timedelta(minutes=offset))
    aware = moment.replace(tzinfo=zone)
    expected = (aware - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) // dt.timedelta(microseconds=1)
    sign = "-" if offset < 0 else "+"
    text = f"{moment.isoformat(timespec='microseconds')}{sign}{abs(offset) // 60:02d}:{abs(offset) % 60:02d}"
    assert parse_time(text) == expected


@given(st.integers(0, 4_000_000_000 * 10**6))
def test_a_written_time_reads_back_to_the_microsecond(micros: int):
    text = format_time(micros / 1e6)
    assert parse_time(text) == micros
    assert dt.datetime.fromisoformat(text).timestamp() == pytest.approx(micros / 1e6)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T04:00:00",
        "2026-13-01T00:00:00Z",
        "2026-02-29T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "２026-11-21T04:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ValueError, match="not a"):
        parse_time(text)


def test_seconds_without_a_fraction_are_taken():
    assert parse_time("2024-02-29T12:00:00Z") == 1709208000 * 10**6
    assert parse_time("2024-02-29T12:00:00.5Z") == 1709208000 * 10**6 + 500_000
