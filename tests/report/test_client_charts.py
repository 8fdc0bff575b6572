"""Pictures of partitions: sizes and labels of clients."""

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from trustml.federated.partition import partition
from trustml.report.charts import label_chart, size_chart, to_svg

LABELS = np.random.default_rng(0).integers(20, size=6000)
NAMES = [f"a label with the number {one}" for one in range(20)]


@pytest.mark.parametrize("clients", [1, 10, 100, 1000])
@pytest.mark.parametrize("word", ["iid", "label:alpha=0.1", "quantity:beta=0.5"])
def test_a_partition_of_any_size_is_drawn_in_little_room(word, clients):
    drawn = partition(word, clients, 0, labels=LABELS)
    for figure in size_chart(drawn.sizes), label_chart(drawn.counts(LABELS), NAMES):
        svg = to_svg(figure, "Clients")
        ElementTree.fromstring(svg)
        assert len(svg) < 60_000


def area(figure):
    """Drawn room of each shade, by its opacity."""
    found = {}
    for patch in figure.axes[0].patches:
        polygons = patch.get_path().to_polygons()
        found[round(patch.get_facecolor()[3], 2)] = sum(
            abs(np.ptp(one[:, 0]) * np.ptp(one[:, 1])) for one in polygons
        )
    return found


def test_a_cell_is_the_darker_the_larger_its_share():
    figure = label_chart([[9, 1], [0, 5], [0, 0]], ["no", "yes"])
    # Of two clients with rows: one cell of 90 %, one of 10 %, one of 100 %.
    assert area(figure) == pytest.approx({1.0: 2.0, 0.4: 1.0})
    assert tuple(figure.axes[0].get_xlim()) == (0, 2)
    of_all = label_chart(np.eye(20) * 5, NAMES)
    shown = [text.get_text() for text in of_all.axes[0].get_yticklabels()]
    assert len(shown) == 12
    assert shown[-1] == "9 others"
    assert area(of_all) == pytest.approx({1.0: 20.0})


def test_neighbours_share_a_column_where_clients_are_many():
    same = label_chart(np.tile([3, 1], (1000, 1)), ["no", "yes"])
    assert area(same) == pytest.approx({1.0: 1000.0, 0.6: 1000.0})


def test_bars_are_the_sizes_from_the_largest():
    bars = size_chart([2, 7, 4]).axes[0].patches
    assert [float(bar.get_height()) for bar in bars] == [7.0, 4.0, 2.0]
    many = size_chart(np.arange(1, 2001)).axes[0].patches[0].get_data()
    assert (many.values[0], many.values[-1], many.edges[-1]) == (2000, 1, 2000)


def test_nothing_to_draw_is_no_picture():
    assert size_chart([]) is None
    assert size_chart([0, 0]) is None
    assert label_chart(np.zeros((3, 2)), ["no", "yes"]) is None
