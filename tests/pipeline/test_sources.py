"""Layouts are recognized by content; what is not of the source is refused: where, what, and what to do about it."""

import gzip
from pathlib import Path

import pytest

from hmar.errors import DataError, SettingsError
from pipeline.sources import SOURCES, delivery, source
from tests.support.raw_logs import lines, taobao_rows, write

TAOBAO = lines(taobao_rows(20))
U_DATA = "1\t10\t3\t881250949\n2\t11\t5\t891717742\n"
RATINGS_DAT = "1::10::3::881250949\n2::11::5::891717742\n"
TAGS_DAT = "1::10::a::b::881250949\n"
RATINGS_CSV = "userId,movieId,rating,timestamp\n1,10,3.5,881250949\n2,11,5.0,891717742\n"
TAGS_CSV = 'userId,movieId,tag,timestamp\n1,10,"slow, but ""good""",881250949\n'


@pytest.mark.parametrize(
    ("dataset", "name", "text", "layout"),
    [
        ("movielens", "u.data", U_DATA, "MovieLens u.data"),
        ("movielens", "ratings.dat", RATINGS_DAT, "MovieLens ratings.dat"),
        ("movielens", "tags.dat", TAGS_DAT, "MovieLens tags.dat"),
        ("movielens", "ratings.csv", RATINGS_CSV, "MovieLens ratings.csv"),
        ("movielens", "tags.csv", TAGS_CSV, "MovieLens tags.csv"),
        ("movielens", "any name.txt", U_DATA, "MovieLens u.data"),
        ("movielens", "bom.csv", "\ufeff" + RATINGS_CSV.replace("\n", "\r\n"), "MovieLens ratings.csv"),
        ("taobao", "UserBehavior.csv", TAOBAO, "Taobao UserBehavior.csv"),
        ("taobao", "blank first.csv", "\n\n" + TAOBAO, "Taobao UserBehavior.csv"),
    ],
)
def test_layout_is_detected_from_content(tmp_path: Path, dataset: str, name: str, text: str, layout: str) -> None:
    path = write(tmp_path / name, text)
    (found,) = delivery(source(dataset), path)
    assert (found.name, found.path, found.layout.name) == (name, path, layout)


def test_gzip_is_detected_from_content_too(tmp_path: Path) -> None:
    path = write(tmp_path / "UserBehavior.csv", gzip.compress(TAOBAO.encode()))
    assert delivery(source("taobao"), path)[0].layout.name == "Taobao UserBehavior.csv"


@pytest.mark.parametrize(
    ("dataset", "files", "found"),
    [
        ("movielens", {"u.data": U_DATA, "u.item": "1|x"}, ["u.data"]),
        ("movielens", {"ratings.dat": RATINGS_DAT, "tags.dat": TAGS_DAT}, ["ratings.dat", "tags.dat"]),
        ("movielens", {"ratings.csv": RATINGS_CSV, "movies.csv": "x"}, ["ratings.csv"]),
        ("movielens", {"tags.csv": TAGS_CSV, "ratings.csv": RATINGS_CSV}, ["ratings.csv", "tags.csv"]),
        ("taobao", {"UserBehavior.csv": TAOBAO, "README": "x"}, ["UserBehavior.csv"]),
    ],
)
def test_directory_gives_the_files_of_its_release(
    tmp_path: Path, dataset: str, files: dict[str, str], found: list[str]
) -> None:
    for name, text in files.items():
        write(tmp_path / name, text)
    assert [file.name for file in delivery(source(dataset), tmp_path)] == found


REFUSED = {
    "empty": ("taobao", "", ["log.csv: the file is empty"]),
    "only blank lines": ("taobao", "\n \n\n", ["log.csv: the file is empty"]),
    "only a header": ("movielens", "userId,movieId,rating,timestamp\n", ["a header and no rows"]),
    "taobao as movielens": ("movielens", TAOBAO, ["line 1", "set dataset to taobao"]),
    "u.data as taobao": ("taobao", U_DATA, ["line 1", "found 1 column(s)", "expected 5", "set dataset to movielens"]),
    "ratings.csv as taobao": ("taobao", RATINGS_CSV, ["header", "set dataset to movielens"]),
    "prose": ("movielens", "Summary\nof the data\n", ["line 1", "found 'Summary'", "u.data"]),
    "header reordered": (
        "movielens",
        RATINGS_CSV.replace("userId,movieId", "movieId,userId"),
        ["line 1", "order movieId,userId,rating,timestamp", "expected userId,movieId,rating,timestamp"],
    ),
    "header renamed": (
        "movielens",
        RATINGS_CSV.replace("rating", "stars"),
        ["line 1", "unknown stars", "missing rating", "expected userId,movieId,rating,timestamp"],
    ),
    "header missing": (
        "movielens",
        RATINGS_CSV.partition("\n")[2],
        ["line 1", "found '1,10,3.5,881250949'", "expected the header userId,movieId,rating,timestamp"],
    ),
    "header too much": (
        "taobao",
        "item,user,category,behavior,timestamp\n" + TAOBAO,
        ["line 1", "reads like a header", "check the order of the columns"],
    ),
    "columns swapped": (
        "taobao",
        "1,2,pv,3,1511544070\n4,5,pv,6,1511544071\n",
        ["line 1", "column 3 (category) is 'pv'", "expected an integer id"],
    ),
    "a column too few": ("movielens", "1\t10\t881250949\n2\t11\t881250950\n", ["found 3 column(s)", "expected 4"]),
    "milliseconds": (
        "taobao",
        "1,2,3,pv,1511544070000\n4,5,6,buy,1511544071000\n",
        ["line 1", "column timestamp", "1511544070000 looks like milliseconds", "divide"],
    ),
    "dates": (
        "movielens",
        "userId,movieId,rating,timestamp\n1,10,3.5,2005-04-02 23:53:47\n",
        ["line 2", "column 4 (timestamp) is '2005-04-02 23:53:47'", "expected whole seconds since 1970"],
    ),
    "UTF-16": ("movielens", RATINGS_CSV.encode("utf-16"), ["UTF-16", "convert it to UTF-8"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_file_is_refused_in_one_clear_line(tmp_path: Path, case: str) -> None:
    dataset, text, words = REFUSED[case]
    path = write(tmp_path / "log.csv", text)
    with pytest.raises(DataError) as refused:
        delivery(source(dataset), path)
    message = str(refused.value)
    assert "\n" not in message
    for word in [str(path), *words]:
        assert word in message


def test_single_bad_rows_do_not_make_a_file_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "1,2,3\n" + TAOBAO + "x,y\n")
    assert delivery(source("taobao"), path)[0].layout.name == "Taobao UserBehavior.csv"


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such file or directory; give the file"):
        delivery(source("taobao"), tmp_path / "nowhere")


def test_directory_without_a_log_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "README", "x")
    with pytest.raises(DataError, match=r"no file of this source in it \(Taobao"):
        delivery(source("taobao"), tmp_path)


def test_directory_of_the_other_source_is_named(tmp_path: Path) -> None:
    write(tmp_path / "u.data", U_DATA)
    with pytest.raises(DataError, match="holds a movielens log: set dataset to movielens"):
        delivery(source("taobao"), tmp_path)


def test_directory_with_a_file_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "UserBehavior.csv", TAOBAO)
    write(tmp_path / "UserBehavior.csv.gz", gzip.compress(TAOBAO.encode()))
    with pytest.raises(DataError, match=r"holds both UserBehavior\.csv and UserBehavior\.csv\.gz; remove one"):
        delivery(source("taobao"), tmp_path)


def test_directory_with_two_releases_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "u.data", U_DATA)
    write(tmp_path / "ratings.csv", RATINGS_CSV)
    with pytest.raises(DataError, match=r"more than one release \(u\.data, ratings\.csv\); give the file itself"):
        delivery(source("movielens"), tmp_path)


def test_unknown_source_names_the_nearest() -> None:
    with pytest.raises(SettingsError, match="unknown raw format 'taoboa'; did you mean 'taobao'"):
        source("taoboa")


def test_registered_name_is_the_modules_name() -> None:
    assert {name: one.NAME for name, one in SOURCES.items()} == {name: name for name in SOURCES}
