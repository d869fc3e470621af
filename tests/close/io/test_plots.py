"""Figures that are saved whole, and drawings that take a page's colours."""

import pytest

from close.io.plots import INK, VARIABLES, figure, save_png, svg


def test_a_picture_appears_whole_or_not_at_all(tmp_path):
    drawn = figure(2, 1)
    drawn.subplots().plot([0, 1])
    save_png(drawn, tmp_path / "deep" / "a.png", dpi=50)
    assert (tmp_path / "deep" / "a.png").read_bytes().startswith(b"\x89PNG")

    class Breaks:
        def savefig(self, file, **_):
            file.write(b"half")
            raise OSError("disk is full")

    with pytest.raises(OSError, match="full"):
        save_png(Breaks(), tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]


def test_a_drawing_has_the_pages_colours_and_no_size_or_typeface_of_its_own():
    drawings = [svg((2, 1), lambda axes: axes.plot([0, 1], color=INK), "a <line>") for _ in range(2)]
    assert drawings[0] == drawings[1]
    assert drawings[0].startswith('<svg role="img" aria-label="a &lt;line&gt;"')
    assert "var(--ink)" in drawings[0]
    assert not any(colour in drawings[0] for colour in VARIABLES)
    assert "font-family" not in drawings[0]
    assert 'pt"' not in drawings[0].split(">")[0]
    assert drawings[0].__html__() is drawings[0]
