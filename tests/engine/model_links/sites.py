"""Sites that share models, on this machine: they answer as the real ones do, with a model of a few MB."""

from __future__ import annotations

import hashlib
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

from huggingface_hub import constants

from dreambooth_ext.engine.model_links import civitai, shares
from tests.engine.downloads.servers import Answer, Answers, Server, redirect, status, whole

KEY = "SECRET-key"
REVISION = "0123456789abcdef0123456789abcdef01234567"


def told(value: Any, code: int = 200, **headers: object) -> Answer:
    """JSON."""
    content = json.dumps(value).encode()

    def answer(http: Answers) -> None:
        http.start(code, Content_Type="application/json; charset=utf-8", Content_Length=len(content), **headers)
        http.wfile.write(content)

    return answer


def by_login(inner: Answer, refusal: Answer, key: str = KEY) -> Answer:
    """For who sends the key in a header."""

    def answer(http: Answers) -> None:
        (inner if http.headers.get("Authorization") == f"Bearer {key}" else refusal)(http)

    return answer


class Civitai:
    """Version 20 of model 10, with a file that is fetched from another host by a signed link."""

    def __init__(self, server: Server, storage: Server, model: bytes, monkeypatch: Any):
        self.server, self.storage, self.model = server, storage, model
        self.site = f"http://{server.host}"
        monkeypatch.setattr(civitai, "SITE", self.site)
        self.file = {
            "id": 30,
            "sizeKB": len(model) / 1024,
            "name": "portraits_v2.safetensors",
            "type": "Model",
            "pickleScanResult": "Success",
            "pickleScanMessage": "No Pickle imports",
            "virusScanResult": "Success",
            "virusScanMessage": None,
            "scannedAt": "2024-06-07T06:50:00.000Z",
            "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
            "hashes": {
                "AutoV1": "F5CA0E2A",
                "AutoV2": hashlib.sha256(model).hexdigest()[:10].upper(),
                "SHA256": hashlib.sha256(model).hexdigest().upper(),
                "CRC32": "84A4F1C0",
            },
            "primary": True,
            "downloadUrl": f"{self.site}/api/download/models/20",
        }
        self.version = {
            "id": 20,
            "modelId": 10,
            "name": "v2",
            "baseModel": "SD 1.5",
            "baseModelType": "Standard",
            "publishedAt": "2024-06-07T06:49:51.266Z",
            "status": "Published",
            "availability": "Public",
            "earlyAccessEndsAt": None,
            "trainedWords": [],
            "files": [self.file],
            "images": [],
            "model": {"name": "Portraits", "type": "Checkpoint", "nsfw": False, "poi": False},
            "downloadUrl": f"{self.site}/api/download/models/20",
        }
        self.page = {
            "id": 10,
            "name": "Portraits",
            "type": "Checkpoint",
            "nsfw": False,
            "allowNoCredit": False,
            "allowCommercialUse": ["Image", "RentCivit"],
            "allowDerivatives": True,
            "allowDifferentLicense": True,
            "mode": None,
            "modelVersions": [self.version, {"id": 19, "name": "v1", "files": []}],
        }
        signed = "/portraits_v2.safetensors?X-Amz-Signature=SECRET-signature"
        storage.answers["/portraits_v2.safetensors"] = whole(model)
        server.answers |= {
            "/api/v1/models/10": lambda http: told(self.page)(http),
            "/api/v1/model-versions/20": lambda http: told(self.version)(http),
            "/api/v1/models/11": told({"error": "No model with id 11"}, 404),
            "/api/download/models/20": redirect(f"http://{storage.host}{signed}", 307),
        }

    def needs_login(self) -> None:
        said = {
            "error": "Unauthorized",
            "message": "The creator of this asset requires you to be logged in to download it",
        }
        given = self.server.answers["/api/download/models/20"]
        self.server.answers["/api/download/models/20"] = by_login(given, told(said, 401))


class Hub:
    """Hugging Face with one repository, me/model, whose large files are fetched from another host."""

    def __init__(self, server: Server, storage: Server, files: Mapping[str, bytes], monkeypatch: Any):
        self.server, self.storage, self.files = server, storage, files
        monkeypatch.setattr(constants, "ENDPOINT", f"http://{server.host}")
        self.gated: Any = False
        self.card: dict[str, Any] = {"license": "creativeml-openrail-m"}
        about = "/api/models/me/model"
        server.answers[about] = server.answers[f"{about}/revision/main"] = self.about
        server.answers[f"{about}/revision/old"] = told(
            {"error": "Invalid rev id: old"}, 404, X_Error_Code="RevisionNotFound"
        )
        server.answers["/api/models/me/none"] = told(
            {"error": "Invalid username or password."}, 401, X_Error_Code="RepoNotFound"
        )
        for name, content in files.items():
            path = f"/me/model/resolve/{REVISION}/{name}"
            server.answers[path] = redirect(f"http://{storage.host}/{name}?Signature=SECRET", 302)
            storage.answers[f"/{name}"] = whole(content, f'"{hashlib.sha256(content).hexdigest()}"')

    def about(self, http: Answers) -> None:
        def sibling(name: str, content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            about: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) > 1000:
                about["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 134}
            return about

        with_sizes = "blobs=" in http.path
        siblings = [sibling(name, content) for name, content in self.files.items()]
        answer = {
            "_id": "1",
            "id": "me/model",
            "modelId": "me/model",
            "author": "me",
            "sha": REVISION,
            "lastModified": "2024-06-07T06:49:51.000Z",
            "private": False,
            "gated": self.gated,
            "disabled": False,
            "tags": ["diffusers", f"license:{self.card.get('license')}"],
            "downloads": 1,
            "siblings": siblings if with_sizes else [{"rfilename": one["rfilename"]} for one in siblings],
            "cardData": self.card,
        }
        told(answer)(http)

    def needs_login(self, key: str = KEY) -> None:
        self.gated = "manual"
        refusal = told({"error": "Access to model me/model is restricted."}, 401, X_Error_Code="GatedRepo")
        for path in [path for path in self.server.answers if "/resolve/" in path]:
            self.server.answers[path] = by_login(self.server.answers[path], refusal, key)


DRIVE_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<div class="uc-main"><p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<p class="uc-warning-subcaption"><span class="uc-name-size"><a href="/open?id={id}">{name}</a> (4.0G)</span></p>
<form id="download-form" action="{action}" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="{id}"><input type="hidden" name="export" value="download">
<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="f9b8510f-7e45"></form>
</div></body></html>"""


class Drive:
    """Google Drive with one large file: it comes after the page that asks for confirmation."""

    ID = "1VKilIC4400a5aAde0Z7Aag5TVF"

    def __init__(self, server: Server, model: bytes, monkeypatch: Any):
        self.server, self.model = server, model
        self.action = f"http://{server.host}/download"
        self.page = DRIVE_PAGE
        monkeypatch.setattr(shares, "DRIVE", f"http://{server.host}")
        server.answers["/download"] = self.answer

    def answer(self, http: Answers) -> None:
        query = dict(urllib.parse.parse_qsl(http.path.partition("?")[2]))
        if query.get("id") != self.ID:
            return status(404)(http)
        if query.get("uuid") == "f9b8510f-7e45":
            said = "attachment; filename=\"my model.safetensors\"; filename*=UTF-8''my%20model.safetensors"
            return whole(self.model, Content_Disposition=said)(http)
        text = self.page.format(id=self.ID, name="my model.safetensors", action=self.action).encode()
        http.start(Content_Type="text/html; charset=utf-8", Content_Length=len(text))
        http.wfile.write(text)
        return None
