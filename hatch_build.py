"""The optional compiled build: the modules of ``COMPILED`` become C extensions (docs/compiled.md).

    HATCH_BUILD_HOOKS_ENABLE=1 pip install .

mypyc compiles the very source that is interpreted otherwise. What it is not given stays interpreted beside it: modules
that define msgspec's Structs, whose class keywords mypyc drops without a word; formats and pages that are not asked for
with every request; coroutines, which it makes no faster.
"""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COMPILED = tuple(
    f"{package}.{module}"
    for package, modules in {
        "gwproto": "gateway",
        "gwproto.exchange": "account attempt attempts base body course exchange flight gears history intake operation"
        " reply response shapes shared sharing",
        "gwproto.policy": "address auth cors guard hedging limits ratelimit refusals retry standing tracing",
        "gwproto.routing": "affinity explain health lineup plan quota rotation router score spare state",
        "gwproto.sse": "decoder encoder",
        "gwproto.wire": "assemble delay effort limits native normalise strict thinking translate whole",
        "gwproto.wire.openai": "adapt completion errors parts request stream usage",
        "gwproto_io": "chunked http1 http1_server keyring pool",
        "gwproto_io.codec": "heads httptools_codec plain_codec",
        "gwproto_raw": "connection driver loops upstream",
        "gwproto_trio": "sockets",
        "gwproto_ops": "metrics responses",
        "gwproto_ops.records": "figures record writing",
    }.items()
    for module in modules.split()
)


#: Calls from one compiled function to another go straight there, not through the table that would let another library
#: replace it.
FLAGS = [] if os.name == "nt" else ["-fvisibility=hidden", "-fno-plt"]

# Two look-ups by name in mypyc's C code: of an attribute, and of what a module has. Names are constants.
_ATTRIBUTE = re.compile(r"(\w+) = (CPyStatics\[\d+\];[^\n]*\n\s+\w+ = )CPyObject_GetAttr\((\w+), \1\)")
_NAME = re.compile(
    r"(\w+) = (CPyStatic_\w+___globals;\n\s+\w+ = CPyStatics\[\d+\];[^\n]*\n\s+\w+ = )CPyDict_GetItem\(\1"
)


def source_of(module: str) -> Path:
    """The module's file, from the root of the project."""
    folder = "" if module.partition(".")[0] == "gwproto" else "runtimes/"
    return Path(folder + module.replace(".", "/") + ".py")


def with_caches(code: str) -> str:
    """mypyc's C code, with what is in ``compiling.h`` behind its includes."""
    includes, marker, rest = code.partition('\n#include "__native_internal_')
    own, _, rest = rest.partition("\n")
    rest, attributes = _ATTRIBUTE.subn(r"\1 = \2gw_ATTRIBUTE(\3, \1)", rest)
    rest, names = _NAME.subn(r"\1 = \2gw_NAME(\1", rest)
    if not (marker and attributes and names):
        raise RuntimeError("mypyc writes other C code than runtimes/compiling.h was made for")
    return "\n".join([includes + marker + own, (Path("runtimes") / "compiling.h").read_text(), rest])


def compile_into(folder: Path) -> list[Path]:
    """Compile all modules; the extensions, inside ``folder``. Ends the process where one cannot be compiled."""
    from mypyc.build import mypycify
    from setuptools import Distribution  # type: ignore[import-untyped]  # it comes without types

    os.environ["MYPYPATH"] = "runtimes"
    options = ["--config-file=", "--explicit-package-bases", "--strict-bytes", "--follow-imports=silent"]
    options.append("--ignore-missing-imports")  # of extras: what they return is looked up at run time then
    sources = [str(source_of(module)) for module in COMPILED]
    extensions = mypycify([*options, *sources], opt_level="2", debug_level="0", target_dir=str(folder / "c"))
    for extension in extensions:
        extension.extra_compile_args += FLAGS
    (made,) = (folder / "c").glob("__native_*[0-9a-f].c")
    made.write_text(with_caches(made.read_text()))
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
