"""Cache of each picture's VAE posterior, in memory or on disk, so that training does not need the VAE.

Cached is the posterior, (mean, logvar), rather than a sample of it, so that each step can sample new latents, as in
diffusers and kohya's tools. On disk, a posterior's name is a digest of everything that it depends on (the picture's
bytes, crop, mirroring, VAE), so that an edited picture or another VAE never finds a stale entry, and runs can share a
folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Hashable
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system.files import TEMPORARY, replace

VERSION = 2  # increased whenever resampling, alpha or colours change, so that old files are not found
DIGEST = 32  # bytes of blake2b before the file's content
IN_MEMORY = 4 * 2**30  # bytes of float32 posteriors; more are stored in float16


def vae_fingerprint(vae: torch.nn.Module) -> str:
    """Return a digest of the VAE's encoder: its configuration and its weights."""
    # diffusers' own notes ("_use_default_values") are in another order in each process
    settings = {key: value for key, value in vae.config.items() if not key.startswith("_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(vae.state_dict().items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy())
    return digest.hexdigest()


def content_key(picture: str, crop: tuple[object, ...], flip: bool, vae: str) -> str:
    """Return the cache's key for one posterior, from the digests of picture and VAE, the crop and the mirroring."""
    text = json.dumps([VERSION, picture, crop, flip, vae])
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryCache:
    """Posteriors in memory.

    Stored in float32, or in float16 if they exceed 4 GiB (about 30 000 pictures at 512): that halves them, and its
    error of 0.05 % is far below the noise that training adds. The choice depends only on the number of pictures and
    their sizes, so a resumed run makes the same.
    """

    def __init__(self, total_bytes: int):
        self.dtype = torch.float32 if total_bytes <= IN_MEMORY else torch.float16
        self._moments: dict[Hashable, Tensor] = {}

    def __contains__(self, key: Hashable) -> bool:
        return key in self._moments

    def put(self, key: Hashable, moments: Tensor) -> None:
        self._moments[key] = moments.to("cpu", self.dtype, copy=True)  # copy: a view would keep its whole batch

    def get(self, key: Hashable) -> Tensor:
        """Return moments (2 * channels, h / 8, w / 8), float32."""
        return self._moments[key].float()


class DiskCache:
    """Posteriors in files below a folder, named by `content_key`: a checksum followed by the safetensors format."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __contains__(self, key: Hashable) -> bool:
        """Whether an undamaged posterior exists. A damaged file is deleted, so that it is encoded again."""
        try:
            return self._read(key) is not None
        except ValueError:
            self._path(key).unlink(missing_ok=True)
            return False

    def put(self, key: Hashable, moments: Tensor) -> None:
        """Store a posterior. Raises UserError if the file cannot be written, most likely because the disk is full."""
        path = self._path(key)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
        content = safetensors.torch.save({"moments": moments.float().cpu().contiguous()})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No fsync, unlike files.replacing: the checksum tells a file that a power cut damaged, and waiting for
            # the disk once a picture would take longer than encoding it.
            temporary.write_bytes(hashlib.blake2b(content, digest_size=DIGEST).digest() + content)
            replace(temporary, path)
        except OSError as error:
            folder, why = str(self.folder), reason_of(error)
            raise UserError("pictures.cache_unwritable", "cache_latents_to_disk", folder=folder, error=why) from error
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    def get(self, key: Hashable) -> Tensor:
        """Return moments (2 * channels, h / 8, w / 8), float32. Raises UserError if the file is missing or damaged."""
        try:
            moments = self._read(key)
        except ValueError:
            moments = None
        if moments is None:
            raise UserError("pictures.cache_damaged", "cache_latents_to_disk", folder=str(self.folder))
        return moments

    def _path(self, key: Hashable) -> Path:
        name = str(key)
        return self.folder / name[:2] / f"{name}.latents"

    def _read(self, key: Hashable) -> Tensor | None:
        """Return a posterior, or None if there is no file. Raises ValueError if it is damaged."""
        try:
            content = self._path(key).read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.blake2b(content[DIGEST:], digest_size=DIGEST).digest() != content[:DIGEST]:
            raise ValueError("checksum")
        return safetensors.torch.load(content[DIGEST:])["moments"]
