"""No module of Gate imports itself by way of others, imports inside functions included."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import grimp


def test_the_console_has_no_circle_of_imports() -> None:
    graph = grimp.build_graph("gate", cache_dir=None)
    modules = {one for one in graph.modules if one.startswith("gate.console")}
    # A package's `__init__` is imported with each module of it, so it must import none of them.
    assert graph.find_modules_directly_imported_by("gate.console") == set()
    imports = {one: graph.find_modules_directly_imported_by(one) & modules for one in modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as circle:
        raise AssertionError(f"a circle: {circle.args[1]}") from None
