"""What a run prints."""

from helpers.training import fit


def test_without_a_terminal_there_is_one_line_an_epoch(capsys):
    fit(progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, 1):
        assert line.startswith(f"epoch {number}/3  loss ")
        for word in ("accuracy", "val_loss", "val_accuracy", "steps/s", "left"):
            assert word in line


def test_silence(capsys):
    fit(progress=False)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    fit(progress=True)
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert "steps/s" in out
    assert "━" in out
