"""Times as exports hold them: each is read as it is meant, or refused by its line."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from infra.operate import times
from infra.operate.ending import Ending
from infra.operate.ids import Wanted, read
from infra.operate.plan import ORDERED_CHUNK, Plan
from infra.operate.times import Reader, Unclear

PARIS = Reader(times.zone("Europe/Paris"))


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2030-01-15T09:00+01:00", "2030-01-15T08:00:00"),
        ("2030-01-15T09:00:30.123456789+01:00", "2030-01-15T08:00:30.123456"),
        ("2030-01-15 08:00:00Z", "2030-01-15T08:00:00"),
        ("2030-01-15 08:00:00 UTC", "2030-01-15T08:00:00"),
        ("2030-01-15t08:00z", "2030-01-15T08:00:00"),
        ("2030-01-15 09:00:00.5+01", "2030-01-15T08:00:00.500000"),
        ("2030-01-15T09:00:00+0100", "2030-01-15T08:00:00"),
        ("15/01/2030 09:00 +01:00", "2030-01-15T08:00:00"),
        ("2030-01-15 09:00", "2030-01-15T08:00:00"),
        ("2030-07-15 09:00", "2030-07-15T07:00:00"),
        ("2030/01/15 9:00:00", "2030-01-15T08:00:00"),
        ("15/01/2030 09:00", "2030-01-15T08:00:00"),
        ("15.01.2030, 09:00", "2030-01-15T08:00:00"),
        ("15-1-2030 9h00", "2030-01-15T08:00:00"),
        ("01/15/2030 09:00", "2030-01-15T08:00:00"),  # no month has the number 15
        ("04/04/2030 09:00", "2030-04-04T07:00:00"),
        ("2030-03-31 01:59:59", "2030-03-31T00:59:59"),  # the second before the lost hour
        ("2030-03-31 03:00", "2030-03-31T01:00:00"),
        ("2030-10-27 01:59", "2030-10-26T23:59:00"),
        ("2030-10-27 03:00", "2030-10-27T02:00:00"),
        ("2030-10-27 02:30+02:00", "2030-10-27T00:30:00"),
        ("2030-10-27 02:30+01:00", "2030-10-27T01:30:00"),
        ("2030-01-15 10:00+00:00", "2030-01-15T10:00:00"),
        ("15/01/2030\u00a009:00", "2030-01-15T08:00:00"),
        ("2030-01-15 09:00\u202f+01:00", "2030-01-15T08:00:00"),
    ],
)
def test_a_certain_time_is_read(text, utc):
    time = PARIS.read(text)
    assert time.astimezone(UTC).replace(tzinfo=None).isoformat() == utc
    assert time.isoformat()[-6] in "+-"  # an offset of its own, as the API wants it


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        (
            "03/04/2030 09:00",
            "may be 2030-04-03 or 2030-03-04: write it like that, or pass --day-first",
        ),
        ("3.4.2030 09:00", "may be 2030-04-03 or 2030-03-04"),
        (
            "2030-10-27 02:00",
            "occurs twice in Europe/Paris, because the clocks go back: add +02:00 or +01:00",
        ),
        ("2030-10-27 02:59:59", "occurs twice"),
        ("2030-03-31 02:00", "does not exist in Europe/Paris, because the clocks skip it"),
        ("2030-03-31 02:59:59", "does not exist"),
        ("2030-01-15", "has no time of day"),
        ("15/01/30 09:00", "is not a time like 20"),
        ("15/01/2030 9:00 PM", "is not a time like 20"),
        ("47498.375", "is not a time like 20"),
        ("1894694400", "is not a time like 20"),
        ("09:00", "is not a time like 20"),
        ("15/01-2030 09:00", "is not a time like 20"),
        ("2030-02-30 09:00", "is not a valid date and time"),
        ("31/31/2030 09:00", "is not a valid date and time"),
        ("2030-01-15 24:00", "is not a valid date and time"),
        ("2030-01-15 09:00+99:00", "is not a valid date and time"),
        ("0001-01-01 00:00", "is not a valid date and time"),
        ("\u0662\u0660\u0663\u0660-01-15 09:00", "is not a time like 20"),
        ("NULL", "is not a time like 20"),
        (
            "15/01/2030 09:00-10:30",
            "has an offset that Europe/Paris does not have at that time: is it a time range?",
        ),
        ("2030-01-15 09:00-10:00", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 09:00-10", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 09:00-17:30", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15T09:00-10:00", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 20:00-00:00", "has an offset that Europe/Paris does not have at that time"),
        ("2030-07-15 09:00+01:00", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 09:00+02:00", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 09:00+23:59", "has an offset that Europe/Paris does not have at that time"),
        ("2030-01-15 09:00+01:60", "is not a time like 20"),
        ("2030-01-15 09:00+0199", "is not a time like 20"),
    ],
)
def test_what_is_not_certain_is_refused(text, why):
    with pytest.raises(Unclear) as refused:
        PARIS.read(text)
    assert str(refused.value).startswith(why)


def test_without_a_zone_an_offset_is_needed():
    with pytest.raises(Unclear, match="has no offset: write it like"):
        Reader().read("2030-01-15 09:00")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2030-01-15 09:00-10:30", "may be a time range: write it like 20"),
        ("15/01/2030 09:00-10", "may be a time range"),
        ("15/01/2030 09:00 -10:00", "may be a time range"),
        ("15/01/2030 22:00-02:00", "may be a time range"),
        ("2030-01-15T09:00+14:30", "has an offset that is not in use"),
        ("2030-01-15T09:00-12:30", "has an offset that is not in use"),
        ("2030-01-15 09:00-17:30", "has an offset that is not in use"),
    ],
)
def test_without_a_zone_what_may_be_a_slot_is_refused(text, why):
    with pytest.raises(Unclear) as refused:
        Reader().read(text)
    assert str(refused.value).startswith(why)


def test_without_a_zone_an_iso_time_has_any_offset_of_a_place():
    for text in ("2030-01-15T09:00-10:00", "2030-01-15 09:00:00-05", "2030-01-15 09:00+14:00"):
        assert Reader().read(text).isoformat().startswith("2030-01-15T09:00:00")


def test_what_this_machine_gives_as_an_example_is_read(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Honolulu")
    time.tzset()
    try:
        assert times.example().endswith("T09:00-10:00")
        assert Reader().read(times.example()).utcoffset() == timedelta(hours=-10)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_where_a_slot_begins_is_the_same_as_with_the_zone_s_own_offset():
    new_york = Reader(times.zone("America/New_York"))
    assert new_york.read("2030-01-15 03:00-05:00") == new_york.read("2030-01-15 03:00")


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (59, "59 s"),
        (599, "9 min 59 s"),
        (2100, "35 min"),
        (3600, "1 h"),
        (5400, "1 h 30 min"),
        (86_400, "1 day"),
        (90_000, "1 day 1 h"),
        (180_000, "2 days 2 h"),
    ],
)
def test_a_span_has_no_zero_in_it(seconds, said):
    assert times.span(seconds) == said


def test_day_first_says_which_is_the_day():
    reader = PARIS._replace(day_first=True)
    assert reader.read("03/04/2030 09:00").isoformat() == "2030-04-03T09:00:00+02:00"
    assert reader.read("2030-04-03 09:00").isoformat() == "2030-04-03T09:00:00+02:00"
    with pytest.raises(Unclear, match="is not a valid date and time"):
        reader.read("01/15/2030 09:00")


NO_PLACE = ["EST", "MST", "localtime", "Factory", "posixrules", "Etc/GMT+1", "right/Europe/Paris"]


@pytest.mark.parametrize(
    "name", ["Paris", "", "Europe", "../../etc/passwd", "/etc/passwd", "x\0", *NO_PLACE]
)
def test_what_is_no_zone_is_refused(name):
    with pytest.raises(Unclear, match="is not a time zone like Europe/Paris"):
        times.zone(name)


def test_utc_is_a_zone():
    assert times.zone(" UTC ").key == "UTC"


def column(text, name="when", ids=None, reader=PARIS):
    return read(text.encode(), Wanted(ids, name, reader))


def refusal(text, **options):
    with pytest.raises(Ending) as refused:
        column(text, **options)
    return str(refused.value)


def test_each_row_has_its_own_time():
    found = column("messageId;When \n300;2030-01-15 09:00\n301;15/01/2030 10:00+00:00\n")
    assert found.ids == ["300", "301"]
    assert [each.isoformat() for each in found.send_at.values()] == [
        "2030-01-15T09:00:00+01:00",
        "2030-01-15T10:00:00+00:00",
    ]


def test_beside_the_times_the_column_of_the_ids_needs_its_name():
    """The only other column may hold telephone numbers."""
    assert "it has no column named messageId: choose one of phone, when with --column" in refusal(
        "phone;when\n33612345678;2030-01-15 09:00\n"
    )
    assert "it has several columns: choose one of messageId, message_id" in refusal(
        "messageId;message_id;when\n300;301;2030-01-15 09:00\n"
    )
    assert "choose one of sms, name, when with --column" in refusal(
        "sms,name,when\n300,Ana,2030-01-15 09:00\n"
    )
    assert column("sms,when\n300,2030-01-15 09:00\n", ids="SMS").ids == ["300"]
    assert column("Message ID,when\n300,2030-01-15 09:00\n").ids == ["300"]
    assert column("sms,name,when\n300,Ana,2030-01-15 09:00\n", ids="SMS").ids == ["300"]


@pytest.mark.parametrize("rows", ["300;\n301;\n", "300\n301\n", "300;\n301;2030-01-15 09:00\n"])
def test_a_row_without_a_time_is_refused_by_its_line(rows):
    assert "correct the rows whose time is missing or unclear:\n  line 2: '' is empty" in refusal(
        "messageId;when\n" + rows
    )


def test_each_row_that_is_not_certain_is_listed():
    said = refusal("messageId;when\n7;03/04/2030 09:00\n8;15/01/2030 09:00\n9;soon\n")
    assert "line 2: '03/04/2030 09:00' may be" in said
    assert "line 4: 'soon' is not a time" in said
    assert "line 3" not in said


def test_an_id_with_two_times_is_refused_and_the_same_time_twice_is_not():
    same = "300;2030-01-15 09:00\n301;2030-01-15 09:00\n300;2030-01-15 08:00Z\n"
    assert column("messageId;when\n" + same).duplicates == 1
    assert refusal("messageId;when\n" + same + "301;2030-01-15 10:00\n") == (
        "keep only one time for each id:\n  line 5: 301 has a different time in line 3"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("messageId;x\n300;y\n", "it has 0 columns named 'when': choose one of messageId, x with"),
        ("messageId;when;WHEN\n300;y;z\n", "it has 2 columns named 'when'"),
        (
            "300;2030-01-15 09:00\n301;2030-01-15 09:00\n",
            "it has no header line: add one",
        ),
        ("300\n301\n", "it has no header line"),
        ("messageId\n300\n", "it has 0 columns named 'when'"),
        ("", "it contains no ids"),
    ],
)
def test_a_column_of_times_that_is_not_there_is_refused(text, said):
    assert said in refusal(text)


def test_times_that_can_be_told_apart_in_two_ways_are_refused():
    names, cells = "messageId;when;x|messageId|when|y", "300;{}T09:00Z;x|300|{}T09:00Z|y"
    text = "\n".join([names, cells.format("2030-01-15", "2030-01-16")])
    assert "two ways: quote the cells that contain the delimiter" in refusal(text)


def test_a_row_that_does_not_fit_is_to_be_quoted_so_that_its_time_stays():
    said = refusal("name;messageId;when\nA;b;300;2030-01-15 09:00\n")
    assert (
        "these rows do not match the first line (quote the cells that contain the delimiter)"
        in said
    )


def test_dates_of_two_orders_in_one_file_are_refused_by_line():
    rows = ["01/14/2030 09:00", "2030-01-15 09:00", "04/04/2030 09:00", "13/01/2030 09:00"]
    text = "".join(f"{300 + at};{each}\n" for at, each in enumerate(rows))
    assert refusal("messageId;when\n" + text) == (
        "write the day and the month of all dates in the same order:\n"
        "  line 5: '13/01/2030 09:00' begins with the day, line 2 with the month"
    )


NOW = datetime(2030, 1, 15, 8, 0, tzinfo=UTC)


def plan(**minutes):
    """Return a plan of ids that leave so many minutes from now; None has no time."""
    return Plan(
        {each: at if at is None else NOW + timedelta(minutes=at) for each, at in minutes.items()},
        NOW.timestamp(),
    )


def sent(of):
    return [(each.ids, each.send_at and round((each.send_at - NOW).seconds / 60)) for each in
            of.requests()]  # fmt: skip


def test_the_earliest_cut_off_comes_first_and_what_is_past_it_last_and_without_a_time():
    assert sent(plan(a=90, b=4, c=30, d=-60, e=5, f=30.5)) == [
        (["c", "f"], 30),
        (["a"], 90),
        (["d", "b", "e"], None),
    ]
    assert plan(a=90, b=4, c=30, d=-60, e=5).past() == ["d", "b", "e"]


def test_without_times_the_order_is_that_of_the_file():
    assert sent(plan(c=None, a=None, b=None)) == [(["c", "a", "b"], None)]


def test_many_times_share_a_request_if_it_is_nearly_theirs():
    """Its time is the earliest: never later than an id's own, and early by a tenth at most."""
    of = plan(**{str(number): 10 + number / 20 for number in range(20_000)})
    requests = list(of.requests())
    assert [each for request in requests for each in request.ids] == list(of.ids)
    assert len(requests) < 20_000 / ORDERED_CHUNK + 60
    assert max(len(each.ids) for each in requests) <= ORDERED_CHUNK
    for each in requests:
        first, last = of.cut_offs[each.ids[0]], of.cut_offs[each.ids[-1]]
        assert each.send_at == of.send_at[each.ids[0]]
        assert 0 <= last - first <= max(60, 0.1 * (first - of.now_s))


def test_the_recall_is_the_same_whatever_the_order_or_the_offset_and_another_by_one_time():
    first = plan(a=90, b=30).recall_id("https://api")
    assert plan(b=30, a=90).recall_id("https://api") == first
    assert plan(b=90, a=30).recall_id("https://api") != first
    assert plan(a=90, b=None).recall_id("https://api") != first
    assert plan(a=90, b=30).recall_id("https://other") != first
