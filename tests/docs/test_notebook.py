"""The notebook of docs/: it runs as a reader would run it, and is kept as it ran."""

import nbformat
import pytest

from tests.docs.notebook import NOTEBOOK, executed

pytestmark = pytest.mark.usefixtures("own_cluster")


def test_the_notebook_searches_a_class_and_a_tensor_of_its_own(tmp_path):
    done = executed(NOTEBOOK, tmp_path)
    kept = nbformat.read(NOTEBOOK, as_version=4)
    assert [cell.source for cell in kept.cells] == [cell.source for cell in done.cells]
    assert NOTEBOOK.stat().st_size < 300_000

    cells = [cell for cell in done.cells if cell.cell_type == "code"]
    (searched,) = [cell for cell in cells if cell.source.startswith("from pipelines import search")]
    page = searched.outputs[-1].data["text/html"]
    assert "data:image/png;base64," in page
    assert "__main__:LeastSquares" in page
    lines = "".join(one.text for one in searched.outputs if one.output_type == "stream").splitlines()
    assert len(lines) < 40, "progress is one output that is updated, and not a line each time"
    assert len([one for one in searched.outputs if one.output_type == "display_data"]) == 1
    pictures = [one for cell in cells for one in cell.outputs if "image/png" in one.get("data", {})]
    assert len(pictures) == 2
    assert cells[-1].outputs[-1].data["text/plain"] == "True", "load() gives the search back"
    (trained,) = [cell for cell in cells if cell.source.startswith("from pipelines import train")]
    said = "".join(one.text for one in trained.outputs if one.output_type == "stream")
    assert "step 200: FID " in said, "what a callback prints is shown"
