"""The journal and its writer: what a kill and what a power cut may cost."""

import json
import os
import time

import pytest

from jaxdeep.search.records import writer
from jaxdeep.search.records.journal import MARK, Journal, sync_file, write_file
from jaxdeep.search.records.writer import Work, Writer


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def synced(monkeypatch):
    """The files that were brought to the disk, in their order, by name."""
    names, fsync = [], os.fsync

    def noted(handle):
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    return names


def test_events_after_the_last_mark_are_unsure_and_can_be_cut(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.add([{"a": 1}, {"b": 2}])
    journal.close()
    assert Journal(path).unsure == []  # of a journal without marks, each event was synced
    journal = Journal(path)
    journal.mark()
    journal.write([{"c": 3}, {"d": "é\n"}])
    journal.close()
    journal = Journal(path)
    assert journal.unsure == [{"c": 3}, {"d": "é\n"}]
    journal.cut()
    assert journal.unsure == []
    journal.add([{"e": 5}])
    journal.close()
    assert lines(path) == [{"a": 1}, {"b": 2}, MARK, {"e": 5}]


def test_a_gap_that_a_power_cut_leaves_ends_the_journal_there(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.add([{"a": 1}])
    journal.mark()
    journal.write([{"b": 2}])
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 40 + b'"x"}\n{"c":3}\n')
    with pytest.warns(UserWarning, match="torn"):
        assert Journal(path).events == [{"a": 1}, MARK, {"b": 2}]
    assert path.read_bytes() == whole
    path.write_bytes(whole + b"\0" * 40 + b'"x"}\n{"c":3}\n' + whole.splitlines()[1] + b"\n")
    with pytest.raises(ValueError, match="line 4 of"):  # it was on the disk, and was changed since
        Journal(path)


def test_files_are_on_the_disk_before_the_journal_and_both_before_the_mark(tmp_path, synced):
    journal = Journal(tmp_path / "journal.jsonl")
    synced.clear()
    work = Writer(journal)
    for name in ("x", "y", "x"):
        work.put(Work(tmp_path / name, name.encode, ({"reached": name},)))
    work.flush()
    assert (tmp_path / "x").read_bytes() == b"x"
    assert lines(journal.path)[1:] == [{"reached": name} for name in ("x", "y", "x")]
    assert synced == ["journal.jsonl"]  # a mark for what was there before
    work.flush(durable=True)
    assert synced == ["journal.jsonl", "x", "y", tmp_path.name, "journal.jsonl"]
    assert lines(journal.path)[-1] == MARK
    work.put(Work(after=({"ended": "x"},), remove=(tmp_path / "x",)))
    work.flush()
    assert (tmp_path / "x").exists()  # until the journal that does without it is on the disk
    work.close()
    journal.close()
    assert not (tmp_path / "x").exists()
    assert lines(journal.path)[-2:] == [{"ended": "x"}, MARK]


def test_what_is_written_is_on_the_disk_after_some_seconds(tmp_path, monkeypatch, synced):
    monkeypatch.setattr(writer, "_SYNC", 0.05)
    journal = Journal(tmp_path / "journal.jsonl")
    work = Writer(journal)
    work.put(Work(tmp_path / "x", b"x".__bytes__, ({"reached": "x"},)))
    work.flush()
    deadline = time.monotonic() + 30
    while lines(journal.path)[-1] != MARK and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "x" in synced
    work.close()
    journal.close()


def test_more_work_than_may_wait_is_written_without_waiting_for_more(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_TOGETHER", 1e4)
    journal = Journal(tmp_path / "journal.jsonl")
    work, path = Writer(journal), tmp_path / "many"
    for number in range(3 * writer._WAITING):
        piece = bytes([number]) * 3
        work.put(Work(path, piece.__bytes__, ({"ended": number},), start=3 * number))
    work.close()
    journal.close()
    numbers = range(3 * writer._WAITING)
    assert [line["ended"] for line in lines(journal.path) if "ended" in line] == [*numbers]
    assert path.read_bytes() == bytes(number for number in numbers for _ in range(3))


def test_an_error_of_the_disk_is_raised_at_the_next_work(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "journal.jsonl")
    work = Writer(journal)

    def full(*args):
        raise OSError(28, "No space left on device")

    work.put(Work(tmp_path / "x", lambda: b"x", ({"reached": "x"},)))
    work.flush()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*Make room there"):
        work.flush(durable=True)
    with pytest.raises(OSError, match="No space left on device"):
        work.put(Work(after=({"ended": "x"},)))
    work.close()
    journal.close()


def test_a_file_has_its_old_contents_or_the_new_ones(tmp_path, monkeypatch):
    path = tmp_path / "row"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"

    def refused(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OSError, match="Input/output error"):
        write_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["row"]
    sync_file(tmp_path / "gone")  # nothing to do
