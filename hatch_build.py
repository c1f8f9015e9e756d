"""The optional compiled build: the modules of ``COMPILED`` become C extensions (docs/compiled.md).

    HATCH_BUILD_HOOKS_ENABLE=1 pip install .

mypyc compiles the very source that is interpreted otherwise. What it is not given stays interpreted beside it: modules
that define msgspec's Structs, whose class keywords mypyc drops without a word; formats and pages that are not asked for
with every request; coroutines, which it makes no faster.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = tuple(
    f"{package}.{module}"
    for package, modules in {
        "gwproto": "gateway",
        "gwproto.exchange": "account attempt attempts base body course exchange flight gears history intake operation"
        " reply response shared sharing",
        "gwproto.policy": "address auth cors guard hedging limits ratelimit refusals retry standing tracing",
        "gwproto.routing": "affinity explain health lineup plan quota rotation router score spare state",
        "gwproto.sse": "decoder encoder",
        "gwproto.wire": "assemble delay effort limits native normalise strict thinking translate whole",
        "gwproto.wire.openai": "adapt completion errors parts request stream usage",
        "gwproto_io": "chunked http1 http1_server keyring pool",
        "gwproto_io.codec": "heads httptools_codec plain_codec",
        "gwproto_asyncio": "connection driver loops upstream",
        "gwproto_ops": "metrics responses",
        "gwproto_ops.records": "figures record writing",
    }.items()
    for module in modules.split()
)


def source_of(module: str) -> Path:
    """The module's file, from the root of the project."""
    folder = "" if module.partition(".")[0] == "gwproto" else "runtimes/"
    return Path(folder + module.replace(".", "/") + ".py")


def compile_into(folder: Path) -> list[Path]:
    """Compile all modules; the extensions, inside ``folder``. Ends the process where one cannot be compiled."""
    from mypyc.build import mypycify
    from setuptools import Distribution  # type: ignore[import-untyped]  # it comes without types

    os.environ["MYPYPATH"] = "runtimes"
    options = ["--config-file=", "--explicit-package-bases", "--strict-bytes", "--follow-imports=silent"]
    options.append("--ignore-missing-imports")  # of extras: what they return is looked up at run time then
    sources = [str(source_of(module)) for module in COMPILED]
    extensions = mypycify([*options, *sources], opt_level="3", debug_level="0", target_dir=str(folder / "c"))
    (made,) = (folder / "c").glob("__native_*[0-9a-f].c")
    head, included, rest = made.read_text().partition('\n#include "__native_internal_')
    name, _, code = rest.partition("\n")
    caches = (Path("runtimes") / "compiling.h").read_text()
    made.write_text("\n".join([head + included + name, caches, code]))
    command = Distribution({"name": "gwproto", "ext_modules": extensions}).get_command_obj("build_ext")
    command.build_lib = str(folder / "lib")
    command.build_temp = str(folder / "o")
    command.ensure_finalized()
    command.run()
    return [path for path in (folder / "lib").rglob("*") if path.is_file()]


class CompiledBuild(BuildHookInterface[Any]):
    """Puts the extensions into the wheel, beside the source that they take precedence over."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # whose source may change at any time
            return
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        os.chdir(self.root)
        for path in compile_into(folder):
            build_data["force_include"][str(path)] = str(path.relative_to(folder / "lib"))
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if version != "editable":
            self._folder.cleanup()
