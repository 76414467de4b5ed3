"""Writes a TorchScript module as a small archive that depends on nothing but the module."""

import io
import zipfile

import torch

_DROPPED = (".debug_pkl", "/.data/serialization_id")


def archive_bytes(module: torch.jit.ScriptModule) -> bytes:
    """The module's zip archive: no debug records, fixed times, records in order, nothing packed.

    Everything is stored plain, because whoever ships the archive compresses it as a whole.
    """
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    result = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(result, "w") as target:
        for name in sorted(source.namelist()):
            if name.endswith(_DROPPED):
                continue
            record = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            record.compress_type = zipfile.ZIP_STORED
            target.writestr(record, source.read(name))
    return result.getvalue()
