"""Links to Civitai: a model's page, a version's page, a download, or a model's AIR name.

https://developer.civitai.com/docs/api/public-rest. The API key goes to civitai.com in a header, and nowhere else.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import parse_json
from ..downloads.connections import Address
from .found import Choice, Found, Logins
from .reading import read_json

SITE = "https://civitai.com"
HOSTS = re.compile(r"(www\.)?civitai\.(com|red|green)", re.IGNORECASE)
AIR = re.compile(r"urn:air:[\w.-]+:[\w.-]+:civitai:(\d{1,12})(?:@(\d{1,12}))?", re.IGNORECASE)
MODEL = re.compile(r"/(?:[a-z]{2}/)?models/(\d{1,12})(?:/.*)?")
VERSION = re.compile(r"(?:/api/download/models|/api/v1/model-versions|/(?:[a-z]{2}/)?model-versions)/(\d{1,12})/?")
KINDS = {
    "Checkpoint": "checkpoint",
    "LORA": "lora",
    "LoCon": "lora",
    "DoRA": "lora",
    "TextualInversion": "textual_inversion",
    "Hypernetwork": "hypernetwork",
}
MODEL_FILES = ("Model", "Pruned Model")  # others are configurations, VAEs, training data
PARAMETERS = {
    "type": ("type",),
    "format": ("metadata", "format"),
    "size": ("metadata", "size"),
    "fp": ("metadata", "fp"),
}
GONE = ("Archived", "TakenDown")


def is_ours(link: str) -> bool:
    return bool(AIR.fullmatch(link)) or bool(HOSTS.fullmatch(urlsplit(link).hostname or ""))


def look_up(link: str, choice: str, logins: Logins, public_only: bool, field: str) -> Found:
    """What is behind a link. choice: the name of one of a version's files. Raises UserError."""
    model, version, wanted = parsed(link, field)
    key = wanted.pop("token", "") or logins.civitai
    site = Site(key, public_only, field)
    if version:
        about = site.ask("model-versions", version, link)
        model = str(about.get("modelId") or "")
    page = site.ask("models", model, link)
    if not version:
        version = str(next((one.get("id") for one in listed(page, "modelVersions")), ""))
        about = site.ask("model-versions", version, link)
    kind = str(page.get("type") or "")
    if kind not in KINDS:
        raise UserError("download.other_kind", field, name=clean(page.get("name")), kind=clean(kind))
    if page.get("mode") in GONE:
        raise UserError("download.civitai_gone", field, name=clean(page.get("name")))
    return site.found(page, about, wanted, choice, is_whole=not key or key == logins.civitai)


def parsed(link: str, field: str) -> tuple[str, str, dict[str, str]]:
    """(model, version, parameters of a download), the first two "" where the link does not tell."""
    if air := AIR.fullmatch(link):
        return air[1], air[2] or "", {}
    parts = urlsplit(link)
    query = dict(parse_qsl(parts.query))
    wanted = {name: query[name] for name in (*PARAMETERS, "token") if query.get(name)}
    if version := VERSION.fullmatch(parts.path):
        return "", version[1], wanted
    if model := MODEL.fullmatch(parts.path):
        version_id = query.get("modelVersionId", "")
        return model[1], version_id if re.fullmatch(r"\d{1,12}", version_id) else "", wanted
    raise UserError("download.civitai_other_page", field)


class Site:
    """Civitai as one look-up asks it."""

    def __init__(self, key: str, public_only: bool, field: str):
        self.key, self.public_only, self.field = key, public_only, field

    def address(self, link: str) -> Address:
        authorization = f"Bearer {self.key}" if self.key else ""
        return Address(link, authorization, self.public_only, self.refusal)

    def ask(self, what: str, id: str, link: str) -> dict[str, Any]:
        if not id:
            raise UserError("download.civitai_gone", self.field, name=link)
        return read_json(self.address(f"{SITE}/api/v1/{what}/{id}"), self.field)

    def refusal(self, status: int, body: bytes) -> UserError | None:
        """What Civitai says with a refusal, in JSON: {"error", "message", "deadline"}."""
        try:
            said = parse_json(body)
        except ValueError:
            said = None
        said = said if isinstance(said, dict) else {}
        text = f"{said.get('error', '')} {said.get('message', '')}".lower()
        if status == 403 and "early access" in text:
            return UserError("download.civitai_early", self.field, until=date(said.get("deadline")) or "?")
        if status in (401, 403) and "disabled downloads" in text:
            return UserError("download.civitai_disabled", self.field)
        if status in (401, 403):
            code = "download.civitai_key_refused" if self.key else "download.civitai_login"
            return UserError(code, self.field, status=status)
        if status in (404, 410):
            return UserError("download.civitai_gone", self.field, name=Message("download.civitai_this"))
        return None

    def found(
        self, page: Mapping[str, Any], about: Mapping[str, Any], wanted: Mapping[str, str], choice: str, is_whole: bool
    ) -> Found:
        files = model_files(about)
        title = " ".join(filter(None, (clean(page.get("name")), clean(about.get("name")))))
        if not files:
            raise UserError("download.no_model_file", self.field, name=title)
        file = chosen(files, wanted, choice)
        if file is None:
            names = [clean(one.get("name")) for one in files]
            raise UserError("download.no_such_file", "file", name=choice, names=names)
        if "Danger" in (file.get("pickleScanResult"), file.get("virusScanResult")):
            raise UserError("download.dangerous", self.field, name=clean(file.get("name")), site="Civitai")
        link = f"{SITE}/models/{page.get('id')}?" + urlencode({"modelVersionId": about.get("id")})
        until = date(about.get("earlyAccessEndsAt")) if about.get("availability") == "EarlyAccess" else ""
        return Found(
            "Civitai",
            link,
            self.address(download_of(file, about)),
            clean(file.get("name")),
            size_of(file),
            sha256_of(file),
            KINDS[str(page.get("type"))],
            clean(about.get("baseModel")),
            title,
            terms(page),
            (Message("download.early_until", until=until),) if until else (),
            tuple(Choice(clean(one.get("name")), size_of(one)) for one in files) if len(files) > 1 else (),
            is_whole=is_whole,
        )


def listed(answer: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The objects in a list of an answer."""
    value = answer.get(name)
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def model_files(about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The files of a version that hold a model, the one to take first: safetensors before pickles, Civitai's own choice
    before others."""

    def rank(file: Mapping[str, Any]) -> tuple[bool, bool]:
        return clean(file.get("name")).lower().endswith(".safetensors"), bool(file.get("primary"))

    files = [one for one in listed(about, "files") if one.get("type") in MODEL_FILES and clean(one.get("name"))]
    return sorted(files, key=rank, reverse=True)


def chosen(files: list[dict[str, Any]], wanted: Mapping[str, str], choice: str) -> dict[str, Any] | None:
    """The file of that name, or the one that a download's parameters describe best. None: there is none so called."""
    if choice:
        return next((file for file in files if clean(file.get("name")) == choice), None)

    def fits(file: Mapping[str, Any]) -> int:
        count = 0
        for name, value in wanted.items():
            said: Any = file
            for key in PARAMETERS[name]:
                said = said.get(key) if isinstance(said, Mapping) else None
            count += str(said).lower() == value.lower()
        return count

    return max(files, key=fits)  # the first of several


def download_of(file: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """The link of a file's download: Civitai's own, unless it leads elsewhere."""
    told = str(file.get("downloadUrl") or "")
    usual = f"{SITE}/api/download/models/{about.get('id')}"
    return told if told.startswith((f"{SITE}/api/download/",)) else usual


def sha256_of(file: Mapping[str, Any]) -> str:
    hashes = file.get("hashes")
    told = str(hashes.get("SHA256") or "").lower() if isinstance(hashes, Mapping) else ""
    return told if re.fullmatch(r"[0-9a-f]{64}", told) else ""


def size_of(file: Mapping[str, Any]) -> int | None:
    told = file.get("sizeKB")
    return round(told * 1024) if isinstance(told, int | float) and 0 < told < 2**40 else None


def terms(page: Mapping[str, Any]) -> Message:
    """A model's licence, which Civitai keeps as four answers of its author."""
    sales = page.get("allowCommercialUse")
    allowed = {str(sale) for sale in (sales if isinstance(sales, list) else [sales])}
    told = {
        "terms.credit": page.get("allowNoCredit") is False,
        "terms.no_commercial": not allowed & {"Image", "Rent", "RentCivit", "Sell"},
        "terms.no_sale": bool(allowed & {"Image", "Rent", "RentCivit"}) and "Sell" not in allowed,
        "terms.no_derivatives": page.get("allowDerivatives") is False,
        "terms.same_terms": page.get("allowDifferentLicense") is False,
    }
    conditions = [Message(code) for code, holds in told.items() if holds]
    return Message("terms.of_author", conditions=conditions) if conditions else Message("terms.free")


def date(told: Any) -> str:
    """The day of a time as sites write it, if it is to come; "" otherwise."""
    try:
        when = datetime.datetime.fromisoformat(str(told).replace("Z", "+00:00"))
    except ValueError:
        return ""
    when = when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)
    return when.date().isoformat() if when > datetime.datetime.now(datetime.timezone.utc) else ""


def clean(told: Any) -> str:
    """A text of the site on one line, not too long."""
    return " ".join(str(told or "").split())[:200]
