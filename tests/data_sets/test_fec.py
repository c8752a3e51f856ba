"""The FEC data set: its files, and its photographs from a server that misbehaves."""

from __future__ import annotations

import csv
import io
import itertools
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, reject
from hypothesis import strategies as st

from exprmetric.datasets import fec, fec_download
from exprmetric.datasets.fec_http import Limits
from exprmetric.errors import ExprmetricError, InputError

# --- the published files ---

FACE = ["http://example.org/1.jpg", "0.25", "0.5", "0.125", "0.75"]


def row(answers: str = "331333", kind: str = "TWO_CLASS_TRIPLET") -> list[str]:
    faces = [cell for i in "123" for cell in [f"http://example.org/{i}.jpg", *FACE[1:]]]
    return [*faces, kind, *itertools.chain(*((f"rater{i}", a) for i, a in enumerate(answers)))]


def written(folder: Path, *rows: list[str]) -> Path:
    path = folder / "faceexp-comparison-data-test-public.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def test_a_row_is_read_as_published(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        '"http://a.org/x,y.jpg",0.1,0.2,0.3,0.4,http://a.org/2.jpg,0,1,0,1,http://a.org/3.jpg,0.5,1.02,-0.01,0.9,'
        "ONE_CLASS_TRIPLET,rater7,2,rater9,2,rater1,1\r\n\r\n"
    )
    (triplet,) = fec.read_fec(path)
    assert triplet.faces[0] == fec.FecFace("http://a.org/x,y.jpg", left=0.1, right=0.2, top=0.3, bottom=0.4)
    assert triplet.faces[2] == fec.FecFace("http://a.org/3.jpg", left=0.5, right=1.02, top=-0.01, bottom=0.9)
    assert fec.TRIPLET_TYPES[triplet.kind] == "ONE_CLASS_TRIPLET"
    assert triplet.raters == ("rater7", "rater9", "rater1")
    assert triplet.answers == (1, 1, 0)
    assert [f.url[-5] for f in triplet.odd_last()] == ["y", "3", "2"]
    assert fec.urls_of([triplet, triplet]) == ["http://a.org/x,y.jpg", "http://a.org/2.jpg", "http://a.org/3.jpg"]


@pytest.mark.parametrize(
    ("answers", "odd", "agreement", "clear"),
    [
        ("333333", 2, 1.0, True),
        ("112113", 0, 4 / 6, True),
        ("11123", 0, 0.6, True),  # 60 % is enough
        ("111233", 0, 0.5, False),
        ("111222", None, 0.5, False),
        ("123", None, 1 / 3, False),
        ("2", 1, 1.0, True),
    ],
)
def test_votes_of_raters(tmp_path, answers, odd, agreement, clear):
    (triplet,) = fec.read_fec(written(tmp_path, row(answers)))
    assert triplet.odd == odd
    assert triplet.agreement == pytest.approx(agreement)
    assert triplet.is_clear() is clear
    if odd is None:
        assert not triplet.is_clear(0.0)
        with pytest.raises(ValueError, match="divided"):
            triplet.odd_last()


@pytest.mark.parametrize(
    ("cell", "value", "message"),
    [
        (0, " ", "face 1 has no URL"),
        (6, "left", "face 2: the box"),
        (6, "nan", "face 2: left nan"),
        (7, "0.25", "is no box"),  # right = left
        (14, "384", "is no box"),  # pixels
        (11, "1.0", "is no box"),  # beside the picture
        (15, "FOUR_CLASS_TRIPLET", "'?FOUR_CLASS_TRIPLET"),
        (17, "4", "the answer 4"),
        (17, "", "the answer"),
    ],
)
def test_a_wrong_cell_is_named_with_its_file_and_line(tmp_path, cell, value, message):
    bad = row()
    bad[cell] = value
    path = written(tmp_path, row(), bad)
    with pytest.raises(fec.FecFormatError, match=message) as caught:
        fec.read_fec(path)
    assert caught.value.line == 2
    assert f"{path.name}', line 2: " in str(caught.value)


@pytest.mark.parametrize("length", [1, 5, 15, 16, 17, 19])
def test_a_row_with_too_few_or_half_a_rater_is_refused(tmp_path, length):
    with pytest.raises(fec.FecFormatError, match=rf"line 1: {length} cells"):
        fec.read_fec(written(tmp_path, row()[:length]))


def test_files_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    for content in (b"\xff\xfe\x00", b"a\0b", b'"open'):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.csv"):
            fec.read_fec(path)
    with pytest.raises(InputError, match=r"gone\.csv"):
        fec.read_fec(tmp_path / "gone.csv")


@given(
    st.lists(st.lists(st.text(max_size=8) | st.sampled_from([*row(), "", "0.5", "1", '"']), max_size=22), max_size=4)
)
def test_any_table_is_read_or_refused_with_a_typed_error(tmp_path_factory, rows):
    text = io.StringIO()
    try:
        csv.writer(text).writerows(rows)
    except csv.Error:  # Python 3.10 can't write a NUL
        reject()
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    with suppress(InputError):
        fec.read_fec(path)


span = st.tuples(st.integers(0, 10**6 - 1), st.integers(1, 10**6)).map(
    lambda v: (v[0] / 10**6, min(v[0] + v[1], 10**6) / 10**6)
)
box = st.tuples(span, span).map(lambda v: (*v[0], *v[1]))
address = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1).map("x".__add__)


@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.tuples(address, box)] * 3),
            st.sampled_from(fec.TRIPLET_TYPES),
            st.lists(st.tuples(address, st.sampled_from("123")), min_size=1, max_size=8),
        ),
        max_size=4,
    )
)
def test_what_is_written_as_published_is_read_back(tmp_path_factory, triplets):
    path = tmp_path_factory.getbasetemp() / "back.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        for faces, kind, votes in triplets:
            csv.writer(file).writerow([*itertools.chain(*((u, *b) for u, b in faces)), kind, *itertools.chain(*votes)])
    for found, (faces, kind, votes) in zip(fec.read_fec(path), triplets, strict=True):
        assert [(f.url, (f.left, f.right, f.top, f.bottom)) for f in found.faces] == list(faces)
        assert fec.TRIPLET_TYPES[found.kind] == kind
        assert [(r, str(a + 1)) for r, a in zip(found.raters, found.answers, strict=True)] == votes


# --- photographs ---


def picture(colour: int = 200, form: str = "JPEG") -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (40, 30), (colour, 90, 30)).save(out, form)
    return out.getvalue()


class Server(BaseHTTPRequestHandler):
    """A photo host with every way of failing."""

    asked: list[str] = []  # noqa: RUF012
    repaired: set[str] = set()  # noqa: RUF012

    def log_message(self, *_: object) -> None:
        pass

    def send(self, content: bytes, code: int = 200, kind: str = "image/jpeg", length: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content) if length is None else length))
        self.end_headers()
        self.wfile.write(content)

    def to(self, place: str) -> None:
        self.send_response(302)
        self.send_header("Location", place)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.asked.append(name)
        moves = {
            "moved.jpg": "/good.jpg",
            "file.jpg": "file:///etc/hostname",
            "ftp.jpg": "ftp://127.0.0.1/x.jpg",
            "removed.jpg": "/photo_unavailable.png",
            "loop.jpg": "/loop.jpg",
        }
        with suppress(OSError):  # the client has gone
            if name in self.repaired or name in ("good.jpg", "photo_unavailable.png"):
                self.send(picture())
            elif name == "good.png":
                self.send(picture(form="PNG"))
            elif name in moves:
                self.to(moves[name])
            elif name == "page.jpg":
                self.send(b"<!DOCTYPE html><title>Sorry</title>")
            elif name == "half.jpg":
                self.send(picture()[:300], length=len(picture()))
            elif name == "broken.jpg":
                self.send(picture()[:300])
            elif name == "large.jpg":
                self.send(picture() + bytes(3 << 20))
            elif name == "busy.jpg":
                self.send(b"later", code=503)
            elif name == "silent.jpg":
                time.sleep(6)
            elif name == "drip.jpg":
                self.send(b"", length=500)
                self.drip()
            elif name == "dripping_headers.jpg":
                self.drip()
            else:
                self.send(b"no such thing", code=404, kind="text/html")

    def drip(self) -> None:
        for _ in range(80):
            self.wfile.write(b"H")
            self.wfile.flush()
            time.sleep(0.1)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    Server.asked, Server.repaired = [], set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


LIMITS = Limits(silence=2.0, seconds=4.0, size=1 << 20)
EXPECTED = {
    "good.jpg": ("ok", "^$"),
    "good.png": ("ok", "^$"),
    "moved.jpg": ("ok", "^$"),
    "gone.jpg": ("dead", "HTTP 404"),
    "removed.jpg": ("dead", "removed"),
    "page.jpg": ("dead", "no image"),
    "broken.jpg": ("dead", "no image"),
    "file.jpg": ("refused", "file:///etc/hostname"),
    "ftp.jpg": ("refused", "ftp://127.0.0.1"),
    "loop.jpg": ("refused", "HTTP 302"),
    "large.jpg": ("refused", "1,048,576 bytes"),
    "with space.jpg": ("refused", "InvalidURL"),
    "half.jpg": ("failed", "300 of"),
    "busy.jpg": ("failed", "HTTP 503"),
    "silent.jpg": ("failed", "timed out"),
    "drip.jpg": ("failed", "not done after 4 s"),
    "dripping_headers.jpg": ("failed", "not done after 4 s"),
}


def test_every_address_ends_in_the_report_with_its_reason(tmp_path, host):
    urls = [f"{host}/{name}" for name in EXPECTED]
    others = {
        "file:///etc/hostname": "refused",
        "/etc/hostname": "refused",
        "http://[": "refused",
        "http://127.0.0.1:9/x.jpg": "failed",
    }
    began = time.monotonic()
    rows = fec_download.download([*urls, *others, urls[0]], tmp_path / "new" / "images", limits=LIMITS, jobs=8)
    assert time.monotonic() - began < 60
    folder = tmp_path / "new" / "images"
    assert [r.url for r in rows] == [*urls, *others]  # an address that is named twice is one
    for found, (status, reason) in zip(rows, EXPECTED.values(), strict=False):
        assert found.status == status, found
        assert re.search(reason, found.reason), found
    assert {r.url: r.status for r in rows[len(urls) :]} == others
    assert all(r.reason for r in rows if r.status != "ok")
    here = {fec.image_name(r.url) for r in rows if r.status == "ok"}
    assert {p.name for p in folder.iterdir()} == {*here, fec_download.REPORT}  # no half files, no leftovers
    assert (folder / fec.image_name(urls[0])).read_bytes() == picture()
    with (folder / fec_download.REPORT).open(newline="") as file:
        report = list(csv.DictReader(file))
    assert [(r["url"], r["file"], r["status"], r["reason"]) for r in report] == [
        (r.url, r.file, r.status, r.reason) for r in rows
    ]


def test_a_second_run_asks_only_for_what_may_have_changed(tmp_path, host):
    names = ("good.jpg", "gone.jpg", "busy.jpg", "large.jpg")
    urls = [f"{host}/{name}" for name in names]
    fec_download.download(urls, tmp_path, limits=LIMITS)
    before = (tmp_path / fec.image_name(urls[0])).stat().st_mtime_ns

    Server.asked, Server.repaired = [], {"busy.jpg", "gone.jpg"}
    more = f"{host}/good.png"
    rows = fec_download.download([*urls[1:], more], tmp_path, limits=LIMITS)
    assert sorted(Server.asked) == ["busy.jpg", "good.png"]
    assert [r.status for r in rows] == ["dead", "ok", "refused", "ok"]
    known = fec_download.read_report(tmp_path)
    assert list(known) == [*urls, more]  # what this run wasn't asked for is still there
    assert known[urls[0]].status == "ok"

    Server.asked = []
    rows = fec_download.download(urls, tmp_path, limits=LIMITS, retry=True)
    assert sorted(Server.asked) == ["gone.jpg", "large.jpg"]
    assert [r.status for r in rows] == ["ok", "ok", "ok", "refused"]
    assert (tmp_path / fec.image_name(urls[0])).stat().st_mtime_ns == before


def test_a_run_that_is_stopped_keeps_its_report_and_no_half_file(tmp_path, host):
    urls = [f"{host}/{name}" for name in ("gone.jpg", "good.jpg", "good.png", "page.jpg")]

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fec_download.download(urls, tmp_path, limits=LIMITS, jobs=1, progress=stop)
    assert {r.status for r in fec_download.read_report(tmp_path).values()} == {"dead", "ok"}
    assert {p.suffix for p in tmp_path.iterdir()} <= {".jpg", ".csv"}
    assert [r.status for r in fec_download.download(urls, tmp_path, limits=LIMITS)] == ["dead", "ok", "ok", "dead"]


def test_a_file_that_is_no_report_is_not_overwritten(tmp_path):
    for content in ("name,grade\nx,1\n", ",".join(fec_download.COLUMNS) + "\na,b,fine,\n", ""):
        (tmp_path / fec_download.REPORT).write_text(content)
        with pytest.raises(InputError, match="no report"):
            fec_download.download([], tmp_path)
        assert (tmp_path / fec_download.REPORT).read_text() == content
    with pytest.raises(InputError, match="can't write"):
        fec_download.download([], tmp_path / fec_download.REPORT / "folder")


def test_command(tmp_path, host):
    from exprmetric_cli.fec import fec as command

    cells = row()
    cells[0], cells[5], cells[10] = (f"{host}/{n}" for n in ("good.jpg", "good.png", "moved.jpg"))
    other = list(cells)
    other[5] = f"{host}/gone.jpg"
    table, out = written(tmp_path, cells, other), tmp_path / "images"
    result = CliRunner().invoke(command, ["download", str(table), "--out", str(out), "--quiet"])
    assert result.exit_code == 0, result.output
    assert "4 photographs: 3 ok, 1 dead, 0 refused, 0 failed" in result.output
    assert "1 of 2 triplets" in result.output
    assert len(fec_download.read_report(out)) == 4

    dead = row()
    dead[0] = dead[5] = dead[10] = f"{host}/gone.jpg"
    empty = ["download", str(written(tmp_path, dead)), "--out", str(tmp_path / "none"), "--quiet"]
    assert CliRunner().invoke(command, empty).exit_code == 1
    table.write_text("a,b\n")
    failed = CliRunner().invoke(command, ["download", str(table), "--out", str(out)])
    assert isinstance(failed.exception, ExprmetricError)
    assert "line 1" in str(failed.exception)
