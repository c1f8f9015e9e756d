"""What the optional compiled build (``docs/compiled.md``) must be told about a class. Interpreted, it is nothing."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from mypy_extensions import mypyc_attr
else:
    T = TypeVar("T")

    def mypyc_attr(**said: object):
        """``allow_interpreted_subclasses``: modules that are not compiled may derive from the class."""

        def unchanged(one: T) -> T:
            return one

        return unchanged


__all__ = ["mypyc_attr"]
