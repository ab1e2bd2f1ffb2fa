"""What people have their ids in: each is read as it is meant, or refused by its line."""

import pytest

from infra.recall import Ending, ExitCode
from infra.recall.ids import read


@pytest.mark.parametrize(
    "data",
    [
        b"300\n301\n",
        b"300\r\n301",
        b"300\r301\r",
        b"\n  300 \n\n\t301\n\n",
        b"\xef\xbb\xbf300\n301\n",
        '"300"\n"301"\n'.encode("utf-16"),
        b"messageId\n300\n301\n",
        b"messageId;\r\n300;\r\n301;\r\n;\r\n",
        b'\xef\xbb\xbf"name";"messageId"\r\n"Ana; Bo";"300"\r\n"Cy ""D""";"301"\r\n',
        b"name\tMessage ID\nAna\t300\nBo\t301\n",
        b'message_id, text\n300,"two\nlines"\n301,x\n',
        "Pr\u00e9nom;messageId\r\nZo\u00e9;300\r\nNo\u00ebl;301\r\n".encode("cp1252"),
        b"300\n301\n300\n 301\n",
    ],
)
def test_however_it_is_written_the_ids_are_the_same(data):
    assert read(data).ids == ["300", "301"]


def test_a_column_is_chosen_by_its_name_whatever_its_case():
    data = b"phone1;SMS id\n0600000000;300\n0600000001;301\n"
    assert read(data, "sms ID ") == (["300", "301"], 0, "SMS id")


def test_duplicates_are_counted_and_order_is_kept():
    assert read(b"302\n300\n302\n302\n") == (["302", "300"], 2, None)


def test_the_longest_id_is_valid_and_so_are_leading_zeros():
    assert read(b"12345678901234567890\n007\n").ids == ["12345678901234567890", "007"]


def refusal(data, column=None):
    with pytest.raises(Ending) as refused:
        read(data, column)
    assert refused.value.code is ExitCode.NOTHING_SENT
    return str(refused.value)


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (b"307.0", "line 2: '307.0', of which a spreadsheet made a decimal: 307?"),
        (b"307,00", "line 2: '307,00'"),
        (b"2.27E+15", "line 2: '2.27E+15', of which a spreadsheet has cut digits"),
        (b"30O", "line 2: '30O'"),
        (b"-1", "line 2: '-1'"),
        (b"1" * 21, "line 2: '111111111111111111111'"),
        ("٣".encode(), "line 2: '٣'"),
        ("300\u200b".encode(), r"line 2: '300\u200b'"),
        (b'="300"', "line 2: '=\"300\"'"),
        (b"300 301", "line 2: '300 301'"),
        (b'"300"301', "line 2: this is no CSV"),
        (b'"300', "line 4: this is no CSV"),
    ],
)
def test_what_is_no_id_is_refused_by_its_line(cell, said):
    assert said in refusal(b"300\n" + cell + b"\n301\n302\n")


def test_each_wrong_line_is_listed_up_to_twenty():
    said = refusal(b"1\n" + b"x1\n" * 25)
    assert [f"line {line}: 'x1'" in said for line in (2, 21, 22)] == [True, True, False]
    assert "and 5 more" in said


def test_a_row_without_its_id_is_refused_and_an_empty_one_is_not():
    assert "line 3: nothing" in refusal(b"name;messageId\nAna;300\nBo;\n;\n")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"messageId\n", b"\xef\xbb\xbf", b";;\n;;\n"])
def test_nothing_to_recall_is_refused(data):
    assert refusal(data) == "there is no id in it"


def test_among_several_columns_none_is_guessed():
    said = refusal(b"id;phone\n1;2\n")
    assert said == "it has several columns: choose one of id, phone with --column"
    assert "a first line with names" in refusal(b"300;0600000000\n")
    assert "several columns" in refusal(b"messageId;messageId\n1;2\n")


def test_a_column_that_is_not_there_is_refused():
    said = refusal(b"messageId;phone\n1;2\n", "message")
    assert said == "it has 0 columns 'message': choose one of messageId, phone with --column"


def test_a_list_without_a_header_has_no_column_to_choose():
    said = refusal(b"300\n301\n", "messageId")
    assert said == "it has 0 columns 'messageId': choose one of 300 with --column"
