"""`make wheel`: one wheel of Gate for each machine in `MACHINES`, with its compiled core, by one compiler for all of them.

    .venv/bin/python scripts/make_wheels.py [FOLDER [MACHINE...]]

The compiler is Zig's, a C compiler with the headers and libraries of every Linux, pinned in `requirements-wheel.lock` together
with two checkers: auditwheel (no newer glibc than the wheel's name says) and abi3audit (only what every Python since 3.11 has).
The same commit gives the same bytes: the sources are the files that git knows, and every time in the wheel is the commit's.

Exit status 1, and one line, if a wheel can't be built or is not what its name says.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements-wheel.lock"
TOOLS = ROOT / ".venv" / "wheel-tools"
MACHINES = ("x86_64", "aarch64")
GLIBC = (2, 17)
"""Of manylinux2014, which pip knows since 19.3: Debian 8, RHEL 7, Ubuntu 14.04."""
CORE = "gate/native/_core.abi3.so"


def build(machine: str, folder: str, headers: str) -> None:
    """In the tree of sources, in a process of its own: setuptools with Zig in the place of the compiler that built Python."""
    from setuptools.build_meta import build_wheel

    compiler = f"zig cc -target {machine}-linux-gnu.{GLIBC[0]}.{GLIBC[1]}"
    # Python's own flags are for its own compiler and machine.
    sysconfig.get_config_vars().update(
        CC=compiler,
        LDSHARED=f"{compiler} -shared -s",
        CFLAGS=f"-I{headers} -fno-sanitize=all",
        OPT="",
        CCSHARED="-fPIC",
    )
    build_wheel(folder, {"--build-option": [f"--plat-name=manylinux2014_{machine}"]})


def headers_in(folder: Path) -> Path:
    """Python's headers, those of this machine. Its types are as wide on every other one in `MACHINES`."""
    installed = Path(sysconfig.get_path("include"))
    if not (installed / "Python.h").exists():
        raise SystemExit(f"make wheel: Python's headers are missing, {installed}: apt-get install python3-dev")
    shutil.copytree(installed, folder)
    # Debian's file of that name leads to another one for each machine, in a place where only Debian's compilers look.
    for_debian = installed.parent / str(sysconfig.get_config_var("MULTIARCH")) / installed.name / "pyconfig.h"
    if for_debian.exists():
        shutil.copy(for_debian, folder / "pyconfig.h")
    return folder


def sources_in(folder: Path) -> Path:
    """The files of this working tree that git knows or would add, and no build's leftovers. Their modes are all the same."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    return folder


def install_tools() -> None:
    """Install the packages of `LOCK`, unless they are installed. Two runs at the same time take turns."""
    installed = TOOLS / "installed.lock"
    turn = open(TOOLS.with_suffix(".turn"), "w")  # noqa: SIM115 - held until this process ends
    fcntl.flock(turn, fcntl.LOCK_EX)
    if installed.exists() and installed.read_bytes() == LOCK.read_bytes():
        return
    shutil.rmtree(TOOLS, ignore_errors=True)
    print("make wheel: installing the compiler that requirements-wheel.lock pins, about 100 MB", flush=True)
    asked = ("-qq", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:", "--target", str(TOOLS))
    done = subprocess.run([ROOT / "scripts/venv-pip", "install", *asked, "-r", str(LOCK)], check=False)
    if done.returncode != 0:
        raise SystemExit("make wheel: the compiler can't be installed")
    shutil.copy(LOCK, installed)


def tool(*command: str) -> str:
    """The output of one of the checkers."""
    environment = os.environ | {"PYTHONPATH": str(TOOLS)}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"make wheel: {' '.join(command)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def require_as_named(wheel: Path, machine: str) -> None:
    """The core is in it, runs where the wheel's name promises, and no file of the build is left in it."""
    names = zipfile.ZipFile(wheel).namelist()
    leftovers = [name for name in names if re.search(r"\.(c|h|pyx|pxi|o)$|__pycache__", name)]
    if CORE not in names or leftovers:
        raise SystemExit(
            f"make wheel: {wheel.name}: {leftovers or 'the core'} {'too many' if leftovers else 'missing'}"
        )
    shown = tool("auditwheel", "show", str(wheel))
    found = re.search(rf'following platform tag:\s+"manylinux_(\d+)_(\d+)_{machine}"', shown)
    if found is None or tuple(map(int, found.groups())) > GLIBC:
        raise SystemExit(f"make wheel: {wheel.name} needs more than it says:\n{shown}")
    tool("abi3audit", "--strict", str(wheel))


def main() -> None:
    """Build, check and name each wheel."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.umask(0o022)
    committed_at = subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=ROOT, text=True).strip()
    install_tools()
    with tempfile.TemporaryDirectory(prefix="gate-wheel-") as work:
        headers = headers_in(Path(work, "headers"))
        environment = os.environ | {
            "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", committed_at),
            "PATH": f"{TOOLS / 'ziglang'}:{os.environ['PATH']}",
            "ZIG_GLOBAL_CACHE_DIR": str(TOOLS / "cache"),
            "ZIG_LOCAL_CACHE_DIR": str(TOOLS / "cache"),
        }
        for machine in sys.argv[2:] or MACHINES:
            tree, made = sources_in(Path(work, machine)), Path(work, "made", machine)
            made.mkdir(parents=True)
            command = [sys.executable, __file__, "--build", machine, str(made), str(headers)]
            done = subprocess.run(
                command,
                cwd=tree,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != 0 or CORE not in done.stdout:
                raise SystemExit(f"{done.stdout[-4_000:]}\nmake wheel: the core was not built for {machine}")
            [wheel] = made.glob("*.whl")
            require_as_named(wheel, machine)
            print(shutil.copy(wheel, folder), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        build(*sys.argv[2:])
    else:
        main()
