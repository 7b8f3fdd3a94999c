"""The undo tree, compared with a plain list of paths for any order of steps."""

from hypothesis import given
from hypothesis import strategies as st

from penna.studio.undo_tree import UndoTree

STEPS = st.lists(st.one_of(st.just("undo"), st.just("redo"), st.just("add"), st.integers(0, 20)), max_size=40)


@given(STEPS, st.integers(1, 41))
def test_only_the_oldest_nodes_are_dropped_and_redo_reverses_undo(steps, most):
    tree = UndoTree[int](most)
    dropped = 0  # number of dropped nodes
    paths: list[tuple[int, ...]] = []  # the path of every node
    here: tuple[int, ...] = ()
    for step in steps:
        if step == "add":
            here = (*here, len(paths))
            paths.append(here)
            assert tree.add(len(paths) - 1).number == len(paths) - 1
            dropped = max(0, len(paths) - most)
            paths = [tuple(number for number in path if number >= dropped) for path in paths]
            here = paths[-1]
        elif step == "undo":
            was, here = here, here[:-1]
            tree.undo()
            if was:
                assert tree.redo_target == was[-1]
        elif step == "redo":
            before = here
            tree.redo()
            here = tuple(node.number for node in tree.path())
            assert here == before or here[:-1] == before
        elif dropped <= step < len(paths):
            here = paths[step]
            tree.select(step)
        assert tuple(node.number for node in tree.path()) == here
        assert tree.value == (here[-1] if here else None)
    rows = list(tree.rows())
    assert sorted(row.node.number for row in rows) == list(range(dropped, len(paths)))
    assert tree.total_added == len(paths)
    assert all(row.depth == len(paths[row.node.number]) - 1 for row in rows)
    order = [paths[row.node.number] for row in rows]
    assert order == sorted(order)  # depth first, oldest first


def test_siblings_share_a_parent_and_the_latest_descendant_was_current_last():
    tree = UndoTree[str]()
    for value in ("a", "b", "c"):
        tree.add(value)
    tree.select(0)
    tree.add("d")  # another version of b
    assert tree.siblings(1) == tree.siblings(3) == [1, 3]
    assert tree.latest_descendant(0) == 3
    tree.select(1)
    assert tree.latest_descendant(0) == 2
    tree.undo()
    tree.redo()
    assert tree.current == 1


def test_replacing_a_value_does_not_change_the_current_node():
    tree = UndoTree[str]()
    node = tree.add("a")
    tree.undo()
    tree.replace(node.number, "ab")
    assert tree.current is None
    assert tree[node.number].value == "ab"
