"""Files as strangers may leave them, and where results are written to: nothing hangs, is replaced or is half there."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nbanalyzer import accelerator, extract_model_params, files, load_model_template, populate
from nbanalyzer.errors import NBAnalyzerError
from nbanalyzer.files import read_file, write_whole
from nbanalyzer.generate import cache
from nbanalyzer.templates.config_files import read_config
from nbanalyzer.templates.template_files import load_module_template

CONTENT = b"0123456789" * 20_000  # more than a pipe holds


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    """Let a hang be a failure."""

    def late(*_: object) -> None:
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(180)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def error_of(call: Callable[[], object]) -> str:
    start = time.process_time()
    with pytest.raises(NBAnalyzerError) as caught:
        call()
    assert time.process_time() - start < 10
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.isprintable()
    assert len(message) < 400
    return message


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# ---- writing: what is there stays what it is


def reader_of(path: Path) -> tuple[threading.Thread, list[bytes]]:
    """Return a thread that reads a pipe to its end, begun, and the list that what it reads is put into."""
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(path.read_bytes()))
    thread.start()
    while not path.exists():
        time.sleep(0.01)
    return thread, found


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    thread, found = reader_of(pipe)
    deadline = time.monotonic() + 10
    while True:  # until the reader has opened it
        try:
            write_whole(pipe, CONTENT)
            break
        except OSError:
            assert time.monotonic() < deadline
    thread.join(10)
    assert found == [CONTENT]
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [*tmp_path.iterdir()] == [pipe]


def test_a_pipe_that_nobody_reads_is_an_error(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="No such device"):
        write_whole(pipe, CONTENT)
    assert "cannot be written: No such device" in error_of(lambda: populate("gpt2", seq_len=8).save(pipe))
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [*tmp_path.iterdir()] == [pipe]


def device(path: Path, minor: int) -> Path:
    """Return a node like /dev/null (3) or /dev/full (7): never the machine's own, a failing test would replace it."""
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
        with path.open("rb"):
            pass
    except PermissionError:
        pytest.skip("only root may make devices, and not everywhere")
    return path


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    null, full = device(tmp_path / "null", 3), device(tmp_path / "full", 7)
    write_whole(null, CONTENT)
    with pytest.raises(OSError, match="No space left"):
        write_whole(full, CONTENT)
    assert all(stat.S_ISCHR(path.lstat().st_mode) for path in (null, full))
    assert sorted(tmp_path.iterdir()) == [full, null]


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        write_whole(tmp_path / "folder", CONTENT)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_is_followed(tmp_path: Path, is_there: bool) -> None:
    (tmp_path / "far").mkdir()
    target, link, chain = tmp_path / "far" / "file", tmp_path / "link", tmp_path / "chain"
    if is_there:
        target.write_bytes(b"before")
    link.symlink_to(target)
    chain.symlink_to("link")
    write_whole(chain, CONTENT)
    assert link.is_symlink()
    assert chain.is_symlink()
    assert target.read_bytes() == CONTENT
    assert [*target.parent.iterdir()] == [target]


@pytest.mark.parametrize("was", [0o600, 0o640, 0o755])
def test_a_file_keeps_its_mode(tmp_path: Path, was: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(was)
    write_whole(path, CONTENT)
    assert (mode(path), path.read_bytes()) == (was, CONTENT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_a_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    os.chown(path, 4321, 4322)
    write_whole(path, CONTENT)
    assert (path.stat().st_uid, path.stat().st_gid) == (4321, 4322)


def test_the_umask_is_obeyed_and_never_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda _: pytest.fail("another thread's files would be anybody's to write"))
            write_whole(tmp_path / "file", CONTENT)
            write_whole(tmp_path / "private", CONTENT, private=True)
    finally:
        os.umask(before)
    assert (mode(tmp_path / "file"), mode(tmp_path / "private")) == (0o640, 0o600)


def test_the_content_is_on_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        assert os.fstat(handle).st_size == len(CONTENT)  # nothing is left in a buffer
        done.append("content")
        fsync(handle)

    def renamed(self: Path, target: Path) -> Path:
        done.append("name")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "file", CONTENT)
    assert done == ["content", "name"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "stopped"]
)
def test_what_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def fail(_: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)):
        write_whole(path, CONTENT)
    assert path.read_bytes() == b"before"
    assert [*tmp_path.iterdir()] == [path]


def test_what_killed_processes_leave_is_swept(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom nbanalyzer import files\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\nfiles.write_whole(sys.argv[1], b'x' * 10**6)"
    )
    path = tmp_path / "file"
    killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(files.TEMPORARY)
    (tmp_path / ".other").write_bytes(b"")
    write_whole(path, CONTENT)
    assert left.exists()  # its writer may still be at work
    old = time.time() - 2 * files.LEFT_OVER
    for one in (left, tmp_path / ".other"):
        os.utime(one, (old, old))
    write_whole(path, CONTENT)
    assert sorted(one.name for one in tmp_path.iterdir()) == [".other", "file"]


def test_eight_threads_write_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [bytes([number]) * 100_000 for number in range(8)]

    def write(text: bytes) -> None:
        for _ in range(10):
            write_whole(path, text)
            assert path.read_bytes() in texts

    threads = [threading.Thread(target=write, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert [*tmp_path.iterdir()] == [path]


# ---- reading: regular files only, and not for ever


def pipe(path: Path) -> None:
    os.mkfifo(path)


def zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(10**12)  # a hole


def folder(path: Path) -> None:
    (path / "config.json").mkdir(parents=True)


READERS: dict[str, Callable[[Path], object]] = {
    "populate": populate,
    "config": lambda path: populate("gpt2", config=path),
    "params": extract_model_params,
    "model template": load_model_template,
    "module template": load_module_template,
    "accelerator": lambda path: accelerator(str(path)),
    "on": lambda path: populate("gpt2").on(str(path)),
}


@pytest.mark.parametrize("make", [pipe, zeros, large, folder], ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_not_read(name: str, make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    make(path)
    said = {"pipe": "not a file", "zeros": "not a file", "large": "larger than", "folder": "Is a directory"}
    assert said[make.__name__] in error_of(lambda: READERS[name](path))


def test_a_large_file_is_read_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    assert "larger than" in error_of(lambda: read_file(path, 4))


@pytest.mark.parametrize("make", [pipe, zeros, large, folder], ids=lambda make: make.__name__)
def test_what_is_no_file_in_the_cache_is_no_template(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "x.json")
    monkeypatch.setattr(cache, "_place", lambda *_: ("key", tmp_path / "x.json"))
    assert cache.kept_template({}) is None


# ---- the cache: what others may have written is not believed


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a file as the cache keeps it, of a template that says nonsense."""
    template = load_model_template(json.dumps({"model_id": "poison", "kernels": []}).encode())
    path = tmp_path / "cache" / "x.json"
    monkeypatch.setattr(cache, "_place", lambda *_: ("key", path))
    cache.keep_template({}, template)
    return path


def test_the_cache_is_its_owners(kept: Path) -> None:
    assert (mode(kept.parent), mode(kept)) == (0o700, 0o600)
    found = cache.kept_template({})
    assert found is not None
    assert found.model_id == "poison"


@pytest.mark.parametrize("loose", [0o666, 0o622, 0o602, 0o620, 0o660])
def test_what_others_may_write_is_not_believed(kept: Path, loose: int) -> None:
    kept.chmod(loose)
    assert cache.kept_template({}) is None
    found = load_model_template(b'{"model_id": "good", "kernels": []}')
    cache.keep_template({}, found)
    assert mode(kept) == 0o600
    assert cache.kept_template({}) == found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_what_another_user_has_written_is_not_believed(kept: Path) -> None:
    os.chown(kept, 4321, 4321)
    assert cache.kept_template({}) is None


def test_what_is_another_users_is_not_believed(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    assert cache.kept_template({}) is None


def test_without_a_home_there_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", nobody)
    monkeypatch.setenv("NBANALYZER_CACHE", "~nobodyx/c")
    assert error_of(cache.cache_folder) == "NBANALYZER_CACHE is '~nobodyx/c': there is no such home"
    monkeypatch.delenv("NBANALYZER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache.cache_folder() is None


# ---- names of files


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a file's name is always text")
def test_a_config_may_be_called_what_is_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\x1b[31m.json"))
    path.write_text(json.dumps(populate("llama-3.2-1b").template.config))
    for analysis in (populate(path, seq_len=8), populate("llama-3.2-1b", config=path, seq_len=8)):
        assert analysis.totals == populate("llama-3.2-1b", seq_len=8).totals
        text = repr(analysis)
        assert text.replace("\n", "").isprintable()
        for suffix in (".json", ".md", ".csv", ".html"):
            analysis.save(tmp_path / f"saved{suffix}")
        assert "\ufffd[31m.json" in (tmp_path / "saved.json").read_text()


# ---- the command line


HERE = Path(__file__).parent.parent
POPULATE = "--populate --model_id gpt2 --seq_len 8"


def run(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the shell; ``nba`` in it is our command."""
    command = f"{sys.executable} -m nbanalyzer"
    paths = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line.replace("nba ", f"{command} ")],
        cwd=folder, env={**os.environ, "PYTHONPATH": paths, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


# line of the shell → environment, exit status, what stderr says
LINES: dict[str, tuple[dict[str, str], int, str]] = {
    f"nba {POPULATE} >&-": ({}, 2, "the output cannot be written: Bad file descriptor"),
    f"nba {POPULATE} > /dev/full": ({}, 2, "the output cannot be written: No space left on device"),
    f"(sleep 1; nba {POPULATE}) | true": ({}, 2, "the output cannot be written: Broken pipe"),
    "(sleep 1; nba --list) | true": ({}, 2, "the output cannot be written: Broken pipe"),
    "nba --list_hardware >&-": ({}, 2, "the output cannot be written: Bad file descriptor"),
    "nba --help > /dev/full": ({}, 2, "the output cannot be written: No space left on device"),
    f"nba {POPULATE} --output done.json >&-": ({}, 0, ""),
    "nba --populate --model_id nothing 2>&-": ({}, 2, ""),
    f"nba {POPULATE} --format table": ({"PYTHONIOENCODING": "ascii"}, 0, ""),
    f"nba {POPULATE} --format md ": (
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}, 0, "",
    ),
    "nba --populate --model_id own.json": (
        {"NBANALYZER_CACHE": "~nobodyx/c"}, 2, "NBANALYZER_CACHE is '~nobodyx/c': there is no such home",
    ),
    f"nba {POPULATE} --config /dev/zero": ({}, 2, "/dev/zero: cannot be read: a pipe or a device, not a file"),
    f"nba {POPULATE} --output pipe": ({}, 2, "--output 'pipe' cannot be written: No such device or address"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("line", LINES)
def test_the_command_line_says_it_in_one_line(line: str, tmp_path: Path) -> None:
    environment, status, said = LINES[line]
    own = {"model_type": "llama", "hidden_size": 64, "attention_bias": True, "vocab_size": 9, "num_hidden_layers": 2}
    own |= {"num_attention_heads": 4, "intermediate_size": 96}
    (tmp_path / "own.json").write_text(json.dumps(own))
    os.mkfifo(tmp_path / "pipe")
    done = run(line, tmp_path, **environment)
    assert done.returncode == status
    assert done.stderr == (f"nbanalyzer: {said}\n" if said else "")
    if status == 0 and "output" not in line:
        assert "1,978,871,808" in done.stdout  # FLOPs
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"own.json", "pipe", *(["done.json"] if "done.json" in line else [])}


@pytest.mark.slow
def test_what_the_shell_appends_to_keeps_what_it_has(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    done = run(f"nba {POPULATE} --format csv --output /proc/self/fd/1 >> log", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second, *_ = (tmp_path / "log").read_text().splitlines()
    assert first == "before"
    assert second.startswith("kernel,")


# ---- configs as Python writes them

HUGE = float("inf")
PYTHONS: list[tuple[str, Any]] = [
    ("Infinity", HUGE),
    ("-Infinity", -HUGE),
    ('{"__float__": "Infinity"}', HUGE),
    ('{"__float__": "-Infinity"}', -HUGE),
    ('[0.0, {"__float__": "Infinity"}]', [0.0, HUGE]),
    ('{"__float__": "x"}', {"__float__": "x"}),
    ('{"__float__": []}', {"__float__": []}),
    ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
]


@pytest.mark.parametrize(("text", "value"), PYTHONS)
def test_numbers_beyond_jsons_are_read(text: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(f'{{"a": {text}, "b": {{"c": {text}}}}}')
    assert read_config(path) == {"a": value, "b": {"c": value}}


@pytest.mark.parametrize("text", ['{"a": "\\ud800"}', '{"\\udfff": 1}', '["Infinity"]', "Infinity", '{"a": Inf}'])
def test_what_is_no_config_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    assert error_of(lambda: read_config(path)).startswith(f"{path}: ")
