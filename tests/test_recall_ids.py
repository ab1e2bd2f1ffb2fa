"""What people have their ids in: each is read as it is meant, or refused by its line."""

import gzip
import io
import zipfile

import pytest

from infra.operate.ending import Ending, ExitCode
from infra.operate.ids import Wanted, read

EXCEL = 'messageId;"Nom (a, b, c)"\r\n300;"Ana"\r\n301;"Bo, Cy"\r\n'
UNICODE_TEXT = "Pr\u00e9nom\tmessageId\r\nZo\u00e9\t300\r\nNo\u00ebl\t301\r\n"
CHINESE = "messageId,\u540d\n300,\u4e00\u4e00\u4e00\n301,\u4e00\n"  # low bytes of zero


@pytest.mark.parametrize(
    "data",
    [
        b"300\n301\n",
        b"300\r\n301",
        b"300\r301\r",
        b"300\r\r\n301\r\r\n",
        b"\n  300 \n\n\t301\n\n",
        "300\u00a0\n\u202f301".encode(),
        b"300,\n301,\n",
        b"300,\n301",
        b"\xef\xbb\xbf300\n301\n",
        b"300\r\n301\r\n\x1a",
        '"300"\n"301"\n'.encode("utf-16"),
        b"messageId\n300\n301\n",
        b"messageId;\r\n300;\r\n301;\r\n;\r\n",
        b'\xef\xbb\xbf"name";"messageId"\r\n"Ana; Bo";"300"\r\n"Cy ""D""";"301"\r\n',
        b"name\tMessage ID\nAna\t300\nBo\t301\n",
        b"name|messageId\nAna|300\nBo|301\n",
        b'message_id, text\n300,"two\nlines"\n301,x\n',
        b"messageId,text\n300,5 inch\n301,\n",
        b"messageId,phone1\n300,0600000000\n301,0600000001\n",
        "Pr\u00e9nom;messageId\r\nZo\u00e9;300\r\nNo\u00ebl;301\r\n".encode("cp1252"),
        b"\xef\xbb\xbf" + "messageId;Pr\u00e9nom\r\n300;Zo\u00e9\r\n301;x".encode("cp1252"),
        b"300\n301\n300\n 301\n",
        b"messageId;name\n300;Ana;\n301;Bo;;\n",
        b"name;messageId;note\nAna;300\nBo;301\n",
        b"name;messageId;note\nAna;300;x\nBo;301\n",
        b"messageId;name;note\n300;Ana;x\n301\n",
        b"messageId;name\n300;Ana\n301\n",
        b'"","messageId","name"\n"1",300,"Ana"\n"2",301,"Bo"\n',
        b",messageId\n0,300\n1,301\n",
        b"sep=;\r\nmessageId;name\r\n300;Ana\r\n301;Bo\r\n",
        b"\xef\xbb\xbfSEP=,\nmessageId,name\n300,Ana\n301,Bo\n",
        b'"sep=\t"\nmessageId\tname\n300\tAna\n301\tBo\n',
        b"sep=;\n300\n301\n",
        b'#TYPE System.Management.Automation.PSCustomObject\r\n"messageId"\r\n"300"\r\n"301"\r\n',
        b'\xef\xbb\xbf#TYPE Selected.X\r\n"messageId","name"\r\n"300","Ana"\r\n"301","Bo"\r\n',
        EXCEL.encode(),
        EXCEL.replace('"', "").encode(),
        EXCEL.encode("utf-16-le"),
        EXCEL.encode("utf-16-be"),
        EXCEL.encode("utf-32"),
        UNICODE_TEXT.encode("utf-16"),
        UNICODE_TEXT.encode("utf-16-le"),
        CHINESE.encode("utf-16-le"),
        CHINESE.encode("utf-16-be"),
        "\ufeff\ufeffmessageId\n300\n301\n".encode(),
        '\ufeff\ufeff"messageId";"x"\n300;1\n301;2\n'.encode(),
        "x;message\u200bId\n1;300\n2;301\n".encode(),
        "x;message\u00a0ID\u200e\n1;300\n2;301\n".encode(),
        "x;message\u00adId \n1;300\n2;301\n".encode(),
        "x;\u2060\uff4dessage_id\n1;300\n2;301\n".encode(),
    ],
)
def test_however_it_is_written_the_ids_are_the_same(data):
    assert read(data).ids == ["300", "301"]


def test_a_column_is_chosen_by_its_name_whatever_its_case():
    data = b"phone1;SMS id\n0600000000;300\n0600000001;301\n"
    assert read(data, Wanted("sms ID ")) == (["300", "301"], 0, "SMS id", {})
    assert read(data.replace(b"SMS ", b"SMS\xc2\xa0"), Wanted("sms id")).ids == ["300", "301"]


def test_a_chosen_column_may_have_a_delimiter_in_its_name():
    assert read(b'"id, SMS";x\n300;1\n301;2\n', Wanted("id, SMS")).ids == ["300", "301"]


def test_duplicates_are_counted_and_order_is_kept():
    assert read(b"302\n300\n302\n302\n") == (["302", "300"], 2, None, {})


def test_the_longest_id_is_valid_and_so_are_leading_zeros():
    assert read(b"12345678901234567890\n007\n").ids == ["12345678901234567890", "007"]


def refusal(data, column=None):
    with pytest.raises(Ending) as refused:
        read(data, Wanted(column))
    assert refused.value.code is ExitCode.NOTHING_SENT
    return str(refused.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        # R writes row numbers without a name.
        (b'"messageId","name"\n"1",2270142,"Ana"\n', "line 2 has 3 cells, the first line names 2"),
        (b'"messageId","name"\n"1",2270142,""\n', "line 2 has 3 cells, the first line names 2"),
        (b'"messageId","name"\n"1",2270142,NA\n', "line 2 has 3 cells, the first line names 2"),
        (b"messageId\n1,2270142\n", "line 2: '1,2270142'"),
        (b"SMS\n1,2270142\n", "line 2: '1,2270142'"),
        (b"messageId,\n1,2270142\n", "line 2 has 2 cells, the first line names 1"),
        # A decimal comma without quotes.
        (b"cost,messageId\n0,024,2270142\n", "line 2 has 3 cells, the first line names 2"),
        (b"cost,messageId,name\n0,024,2270142,\n", "line 2 has 4 cells, the first line names 3"),
        # Thousands without quotes.
        (b"messageId,name\n2,270,142,Ana\n", "line 2 has 4 cells, the first line names 2"),
        (b"messageId,name\n2,270,142\n", "line 2 has 3 cells, the first line names 2"),
        (b"messageId,name,x\n2,270,142,,\n", "line 2 has 5 cells, the first line names 3"),
        (b"messageId\n2,270\n", "line 2: '2,270' has a thousands or decimal"),
        # A name with a delimiter in it, without quotes.
        (b"name,messageId,n\nBo, 7,300,1\n", "line 2 has 4 cells, the first line names 3"),
        # Only some of the rows are shifted.
        (b"messageId,cost\n300,1\n301,0,024\n", "line 3 has 3 cells, the first line names 2"),
        (b"sep=;\nmessageId;x\n1;300;y\n", "line 3 has 3 cells, the first line names 2"),
        # A row that a line break without quotes has cut in two.
        (b"name\tmessageId\ttext\tn\nAna\t300\tone\ntwo\t12\n", "line 3 may be the rest"),
        (b"name,messageId,text,n\nAna,300,one\ntwo,12\n", "line 3 may be the rest"),
        # A short row, with a second cell that may be an id.
        (b"name,messageId,phone1\n300,0600000000\n", "line 2 has 2 cells, the first line names 3"),
        # Names with a delimiter in them, without quotes, so that the lengths agree.
        (b"messageId,Name (a, b)\n2,270,142\n", "a name in its first line is split in two"),
        # Row numbers in the place of the ids, by a first line that is cut or moved.
        (b"messageId,x,y\n1,2270142,a\n2,2270143,b\n", "look like row numbers"),
        (b"messageId,x,y\n0,2270142,a\n1,2270143,b\n", "look like row numbers"),
        # Two readings, both whole.
        (b"messageId;x,messageId\n7;8,9\n", "two ways"),
        # The sum that a report ends with.
        (b"name;messageId\nAna;300\nTotal;9\n", "line 3 looks like a total"),
        (b"name;messageId\nAna;300\nGrand total:;9\n", "line 3 looks like a total"),
        # The name that is asked for is an id: the first line would be lost.
        (b"300;x\n301;y\n", "several columns and no header"),
    ],
)
def test_a_row_that_may_be_shifted_sends_nothing(data, said):
    assert said in refusal(data)


def test_an_id_is_not_taken_for_a_name():
    assert "it has no header line" in refusal(b"300;x\n301;y\n", "300")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (b"307.0", "line 2: '307.0' looks like an id turned into a decimal; did you mean 307?"),
        (b"307,00", "line 2: '307,00'"),
        (b"2.27E+15", "line 2: '2.27E+15' may have lost digits"),
        (b"2.264102e+06", "line 2: '2.264102e+06' may have lost digits"),
        (b"1e+05", "line 2: '1e+05' may have lost digits"),
        (b"2,27E+06", "line 2: '2,27E+06' may have lost digits"),
        (b"1234567890123450", "line 2: '1234567890123450' may have lost digits"),
        (b"12345678901234500000", "line 2: '12345678901234500000' may have lost digits"),
        (b"270.000", "line 2: '270.000' has a thousands or decimal separator"),
        (b"270,000", "line 2: '270,000' has a thousands or decimal"),
        (b'"2,270,142"', "line 2: '2,270,142' has a thousands or decimal"),
        (
            "2\u202f270\u202f142".encode(),
            r"line 2: '2\u202f270\u202f142' has a thousands or decimal",
        ),
        (
            "2\u2019270\u2019142".encode(),
            "line 2: '2\u2019270\u2019142' has a thousands or decimal",
        ),
        (b"30O", "line 2: '30O'"),
        (b"-1", "line 2: '-1'"),
        (b"+300", "line 2: '+300'"),
        (b"300.", "line 2: '300.'"),
        (b"0x12c", "line 2: '0x12c'"),
        (b"#REF!", "line 2: '#REF!'"),
        (b"NULL", "line 2: 'NULL'"),
        (b"1" * 21, "line 2: '111111111111111111111'"),
        ("\u0663".encode(), "line 2: '\u0663'"),
        ("\uff13\uff10".encode(), "line 2: '\uff13\uff10' contains invisible or unusual"),
        ("300\u200b".encode(), r"line 2: '300\u200b' contains invisible or unusual"),
        ("\ufeff300".encode(), r"line 2: '\ufeff300' contains invisible or unusual"),
        (b'="300"', "line 2: '=\"300\"'"),
        (b"'300", 'line 2: "\'300"'),
        (b"300 301", "line 2: '300 301'"),
        (b'"300"301', "line 2: this is not valid CSV"),
        (b'"300', "line 4: this is not valid CSV"),
        (b'"a\\"b"', "line 2: this is not valid CSV"),
    ],
)
def test_what_is_no_id_is_refused_by_its_line(cell, said):
    assert said in refusal(b"300\n" + cell + b"\n301\n302\n")


@pytest.mark.parametrize("cell", [b"270.000", b"1.000", b"2.27E+06", b"12345678901234500000"])
def test_no_hint_names_another_id_than_the_cell_may_mean(cell):
    said = refusal(b"300\n" + cell + b"\n")
    assert "did you mean" not in said
    assert cell.decode() in said


def test_each_wrong_line_is_listed_up_to_twenty():
    said = refusal(b"1\n" + b"x1\n" * 25)
    assert [f"line {line}: 'x1'" in said for line in (2, 21, 22)] == [True, True, False]
    assert "and 5 more" in said


def test_a_row_without_its_id_is_refused_and_an_empty_one_is_not():
    assert "line 3: '' is empty" in refusal(b"name;messageId\nAna;300\nBo;\n;\n")


def test_lines_count_from_the_top_of_the_file_with_what_tools_put_there():
    assert "line 4: 'x1'" in refusal(b"#TYPE A.B\nsep=;\nmessageId\nx1\n")


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"messageId\n", b"\xef\xbb\xbf", b";;\n;;\n", b"sep=;\n", b"sep=;", b"#TYPE x"],
)
def test_nothing_to_recall_is_refused(data):
    assert refusal(data) == "it contains no ids"


def test_among_several_columns_none_is_guessed():
    said = refusal(b"id;phone\n1;2\n")
    assert said == "it has several columns: choose one of id, phone with --column"
    assert refusal(b"300;0600000000\n") == (
        "it has several columns and no header line: add one, and choose the column with --column"
    )
    assert "several columns and no header" in refusal(b"300,301,302\n")
    assert "several columns" in refusal(b"messageId;messageId\n1;2\n")
    assert "several columns" in refusal(b'"","x"\n"1",300\n')
    assert "several columns" in refusal(b",x\n0,300\n")


def test_a_column_that_is_not_there_is_refused():
    said = refusal(b"messageId;phone\n1;2\n", "message")
    assert said == "it has 0 columns named 'message': choose one of messageId, phone with --column"


def test_a_list_without_a_header_has_no_column_to_choose():
    assert "it has no header line" in refusal(b"300\n301\n", "messageId")


def workbook():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("xl/worksheets/sheet1.xml", "<c><v>300</v></c>")
    return packed.getvalue()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (workbook(), "this is a workbook (.xlsx, .ods) or another ZIP archive: save the sheet"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504), "this is a workbook (.xls): save"),
        (gzip.compress(b"300\n", mtime=0), "this is compressed (gzip): unpack it first"),
        (b"%PDF-1.7\n300", "this is a PDF"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "this is not a text file"),
        (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00", "this is not a text file"),
        (b"PAR1\x15\x04\x15\x10", "this is not a text file"),
        (bytes(range(256)), "this is not a text file"),
        (b"300\x00\n301\n", "this is not a text file"),
        (b"\xff\xfe3\x000\x000", "this is not a text file"),  # UTF-16 that breaks off
        (b"\xff\xfe\x00\xd8\x00\xd8", "this is not a text file"),
        (b"[300, 301]", "this is JSON"),
        (b'{"messageIds": [300]}', "this is JSON"),
        (b'{"messageId": 300}\n{"messageId": 301}\n', "this is JSON"),
        (b"<html><table><tr><td>300", "this is HTML or XML"),
        ("\ufeff<?xml version='1.0'?><Workbook>".encode(), "this is HTML or XML"),
    ],
)
def test_what_is_no_table_is_called_what_it_is_and_not_shown(data, said):
    told = refusal(data)
    assert told.startswith(said)
    assert told.isascii()
    assert told.isprintable()


@pytest.mark.parametrize("header", ["\x9b31m;b", "a\u202eb;c", "x" * 500 + ";y"])
def test_names_are_shown_short_and_without_what_a_terminal_obeys(header):
    said = refusal(f"{header}\n1;2\n".encode())
    assert said.isprintable()
    assert len(said) < 200


def test_a_cell_larger_than_any_text_is_refused():
    assert "not valid CSV" in refusal(b"messageId,x\n300," + b"y" * 200_000 + b"\n")
    assert "not valid CSV" in refusal(b"x" * 200_000)


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|", "sep=^\n"])
def test_no_delimiter_makes_an_id_of_a_part_of_a_cell(delimiter):
    """Under every first line with two names, a row of other numbers of cells sends nothing."""
    line, mark = (delimiter, "^") if delimiter.startswith("sep") else ("", delimiter)
    for cells in (
        ["1", "300", "x"],
        ["1", "300", "301"],
        ["1", "300", "", "x"],
        ["1", "2", "3", ""],
    ):
        text = f"{line}messageId{mark}name\n{mark.join(cells)}\n"
        assert f"has {len(cells)} cells, the first line names 2" in refusal(text.encode())
