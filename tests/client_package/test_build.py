"""What `make client` builds: one module without dependencies, its types, and the same file as the page at `/client/` loads."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from pathlib import Path

import gate
from scripts import client_types
from tests.client_package.conftest import ROOT, Built

PAGE = ROOT / "gate/http/client/page/gate-client.js"

CONSUMER = """\
import { connect, GateError, type State, type UserPresence } from "@gate/client";

const states: State[] = [];
const onState = (state: State) => states.push(state);
const client = connect({ url: "http://127.0.0.1:8080/", getToken: async () => "gt1.x", onState });
const show = (presence: UserPresence[]) => presence[0]?.platforms[0]?.since_ms;
const stop: () => void = client.watch(["bob", { b64: "/w==" }], show);
const { presence } = await client.ask({ type: "presence", users: ["bob"] });
const online: boolean | undefined = presence[0]?.online;
const { applied } = await client.ask({ type: "block", users: ["eve"], seconds: 60 });
if (client.state.name === "offline" && client.state.isFinal) console.log(client.state.reason, online, applied, GateError);
stop();
"""


def test_the_version_is_that_of_gate() -> None:
    package = json.loads((ROOT / "client/package.json").read_text())
    lock = json.loads((ROOT / "client/package-lock.json").read_text())
    source = (ROOT / "client/src/index.ts").read_text()
    assert package["version"] == lock["version"] == lock["packages"][""]["version"] == gate.__version__
    assert f'VERSION = "{gate.__version__}"' in source


def test_the_types_of_messages_are_those_of_the_server() -> None:
    assert client_types.TARGET.read_text() == client_types.written(), "run python -m scripts.client_types"


def test_the_lock_names_no_registry() -> None:
    assert re.findall(r"https?://", (ROOT / "client/package-lock.json").read_text()) == []


def test_the_page_loads_what_the_package_has(built: Built) -> None:
    assert PAGE.read_text() == (built.folder / "dist/index.js").read_text(), (
        "copy build/client/dist/index.js: make client"
    )


def test_the_module_stands_alone_and_the_tarball_is_complete(built: Built) -> None:
    assert (
        re.findall(r"^import|\bimport\(|\brequire\(", (built.folder / "dist/index.js").read_text(), re.MULTILINE) == []
    )
    package = json.loads((built.folder / "package.json").read_text())
    assert not {"dependencies", "peerDependencies", "optionalDependencies"} & package.keys()
    with tarfile.open(built.tarball) as packed:
        names = {name.removeprefix("package/") for name in packed.getnames()}
    assert names == {
        "LICENSE", "README.md", "package.json",
        "dist/index.js", "dist/index.d.ts", "dist/messages.js", "dist/messages.d.ts",
    }  # fmt: skip


def test_an_app_in_typescript_compiles_and_a_mistake_does_not(built: Built, tmp_path: Path) -> None:
    scope = tmp_path / "node_modules/@gate"
    scope.mkdir(parents=True)
    with tarfile.open(built.tarball) as packed:
        packed.extractall(scope, filter="data")
    (scope / "package").rename(scope / "client")
    assert compiled(tmp_path, CONSUMER) == ""
    assert "TS2339" in compiled(tmp_path, CONSUMER + "client.state.isFinal;\n")
    assert "TS2820" in compiled(tmp_path, CONSUMER + 'client.ask({ type: "presnce", users: [] });\n')


def compiled(folder: Path, text: str) -> str:
    (folder / "app.mts").write_text(text)
    options = ["--noEmit", "--strict", "--target", "es2022", "--module", "nodenext"]
    run = subprocess.run(
        [ROOT / "client/node_modules/.bin/tsc", *options, "app.mts"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return run.stdout
