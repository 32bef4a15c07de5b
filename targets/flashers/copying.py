"""Flashers that copy a file onto a drive, which the board's boot loader or probe shows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from targets import drives
from targets.drives import Drive
from targets.errors import DeviceError
from targets.flashers.base import Job


@dataclass(frozen=True, slots=True)
class Copy:
    """A drive that takes firmware; `kind` is that of drives.Drive."""

    method: str
    kind: str
    form: str
    install: str = "nothing to install"

    def installed(self) -> bool:
        """Always: it needs no tool."""
        return True

    def reaches(self, job: Job) -> bool:
        """Whether the board's drive is mounted."""
        return len(self._drives(job)) == 1

    def command(self, job: Job) -> tuple[str, ...]:
        """The copy, as a command line."""
        found = self._drives(job)
        to = str(found[0].path) if found else job.name(self.method)
        return ("cp", str(job.image), os.path.join(to, ""))

    def flash(self, job: Job) -> None:
        """Copies the image."""
        found = self._drives(job)
        if len(found) != 1:
            raise self._absent(job, found)
        data = job.image.read_bytes()
        try:
            with (found[0].path / job.image.name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            message = f"cannot write to the drive {found[0].path}: {error.strerror}"
            raise DeviceError(message, hint=job.target.hardware.bootloader) from error

    def _drives(self, job: Job) -> tuple[Drive, ...]:
        folders = (Path(job.port),) if job.port and Path(job.port).is_dir() else None
        return tuple(d for d in drives.mounted(folders) if self._is_mine(job, d))

    def _is_mine(self, job: Job, drive: Drive) -> bool:
        if drive.kind != self.kind:
            return False
        hardware = job.target.hardware
        if self.kind == "uf2":
            return drive.board == job.name(self.method)
        return drive.board in hardware.board_ids

    def _absent(self, job: Job, found: tuple[Drive, ...]) -> DeviceError:
        if found:
            names = ", ".join(str(drive.path) for drive in found)
            return DeviceError(f"more than one drive fits: {names}", hint="name one with --port")
        return DeviceError(
            f"no drive of {job.target.name} is mounted", hint=job.target.hardware.bootloader
        )


COPIES = (Copy("uf2", "uf2", "uf2"), Copy("daplink", "daplink", "hex"))
