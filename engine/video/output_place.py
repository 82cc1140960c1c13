"""Where an output goes: checked before any work, written under a hidden name, renamed when complete."""

from __future__ import annotations

import contextlib
import os
import weakref
from pathlib import Path

from engine.errors import OutputError, explain
from engine.video.pyav import is_url, words

__all__ = ["OutputPlace"]


class OutputPlace:
    """A final path and the hidden temporary beside it, which is created at once and never left behind.

    Where `path` is a symbolic link, the file it points to is the final path. Raises OutputError when the
    folder is missing or not writable, when the path is a folder, has another suffix than `suffixes`, is
    the input itself (by whatever name) or exists and `overwrite` is False.
    """

    def __init__(
        self, path: str | Path, *, suffixes: tuple[str, ...], inputs: tuple[str, ...], overwrite: bool
    ) -> None:
        self.name = str(path)
        self.final = Path(os.path.realpath(path))
        self.suffix = Path(path).suffix.lower()
        self.partial = self.final.with_name(f"{self.final.stem}.partial{self.suffix}")
        self._check(suffixes, inputs, overwrite)
        self.temporary = self._create_temporary()
        self._cleanup = weakref.finalize(self, _remove, self.temporary)

    def complete(self) -> Path:
        """Rename the temporary to the final path, replacing what was there in one step."""
        return self._rename(self.final)

    def keep_partial(self) -> Path:
        """Rename the temporary to NAME.partial.SUFFIX, replacing an older one."""
        return self._rename(self.partial)

    def discard(self) -> None:
        """Remove the temporary. May be called at any time, more than once."""
        self._cleanup()

    def _check(self, suffixes: tuple[str, ...], inputs: tuple[str, ...], overwrite: bool) -> None:
        if self.suffix not in suffixes:
            wanted = f"a name that ends in {' or '.join(suffixes)}"
            raise OutputError(explain(self.name, wanted, self.suffix or "no suffix", "choose one of these formats"))
        if self.final.is_dir():
            raise OutputError(explain(self.name, "a file name", "a folder", "add a file name to it"))
        folder = self.final.parent
        if not folder.is_dir():
            raise OutputError(
                explain(self.name, "an existing folder", f"no folder {folder}", "create the folder first")
            )
        for uri in inputs:
            for place in (self.final, self.partial):
                if _same_file(place, uri):
                    got = "the input itself" if place == self.final else f"the input {place.name}"
                    raise OutputError(explain(self.name, "another file than the input", got, "choose another name"))
        if self.final.exists() and not overwrite:
            raise OutputError(
                explain(self.name, "a name that is free", "an existing file", "allow overwriting or rename")
            )

    def _create_temporary(self) -> Path:
        stem = self.final.name.removesuffix(self.final.suffix)[:60]
        for attempt in range(1000):  # further sinks of this process, or a leftover of an equal process id
            again = f"-{attempt}" if attempt else ""
            temporary = self.final.with_name(f".{stem}.{os.getpid()}{again}.part{self.suffix}")
            try:
                os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except FileExistsError:
                continue
            except OSError as error:
                raise OutputError(
                    explain(self.name, "a folder that can be written to", words(error), "check its permissions")
                ) from error
            return temporary
        raise OutputError(
            explain(self.name, "a free temporary name", f"none in {self.final.parent}", "remove .part files")
        )

    def _rename(self, target: Path) -> Path:
        try:
            self.temporary.replace(target)
        except OSError as error:
            self.discard()
            raise OutputError(
                explain(
                    self.name,
                    f"the finished file renamed to {target.name}",
                    words(error),
                    "check the folder's permissions",
                )
            ) from error
        self._cleanup.detach()
        return target


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _same_file(path: Path, uri: str) -> bool:
    if is_url(uri):
        return False
    try:
        return path.samefile(uri)
    except OSError:  # one of the two does not exist
        return False
