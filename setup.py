"""The one part of the package that is compiled, and that it can do without: see `gate/native`."""

from __future__ import annotations

import os

from setuptools import Extension, setup

STABLE_ABI_OF = "0x030b0000"  # Python 3.11: one file for it and every later version


def extensions() -> list[Extension]:
    try:
        from Cython.Build import cythonize
    except ImportError:
        return []  # answered in Python then
    core = Extension(
        "gate.native._core",
        ["gate/native/_core.pyx", *(f"gate/native/{name}.c" for name in ("tree", "users", "resp"))],
        depends=["gate/native/core.h", "gate/native/_sockets.pxi"],
        define_macros=[("Py_LIMITED_API", STABLE_ABI_OF), ("_GNU_SOURCE", None)],
        extra_compile_args=["-O3", "-g0", "-std=c11", *os.environ.get("GATE_NATIVE_CFLAGS", "").split()],
        extra_link_args=os.environ.get("GATE_NATIVE_CFLAGS", "").split(),
        py_limited_api=True,
    )
    made: list[Extension] = cythonize([core], build_dir="build/cython", quiet=True)
    for extension in made:
        extension.optional = True  # cythonize does not take it over
    return made


setup(ext_modules=extensions(), options={"bdist_wheel": {"py_limited_api": "cp311"}})
